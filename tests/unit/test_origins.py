"""A job's function is found in its file, and a job is built again from what the ledger stored."""

import sys
from datetime import UTC, date, datetime
from itertools import count

import pytest

from batchwright import Job
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import NotReplayableError, OriginError
from batchwright.model.execution import JobExecution, Origin
from batchwright.model.status import Status
from batchwright.origins import load_function, rebuild

_numbers = count(1)

JOB = """
from datetime import date
from enum import Enum
from batchwright import Job, Step

class Colour(Enum):
    RED = "red"

def daily(day: date, colour: Colour = Colour.RED, maybe: Colour | None = None) -> Job:
    return Job(f"daily {colour.name} {maybe}", Step("s", read=[day], write=len))

def helper(x):
    return x
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of a name that no other test has loaded."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / f"sales_of_test_{next(_numbers)}.py"
    yield path
    sys.modules.pop(path.stem, None)


def test_a_function_is_found_by_its_name(file):
    file.write_text(JOB)
    assert load_function(f"{file}:daily").__name__ == "daily"


def test_the_only_job_function_needs_no_name(file):
    file.write_text(JOB)
    assert load_function(str(file)).__name__ == "daily"


def test_a_file_is_loaded_once_and_may_import_its_neighbours(file, tmp_path):
    (tmp_path / f"{file.stem}_neighbour.py").write_text("VALUE = 7")
    file.write_text(f"from {file.stem}_neighbour import VALUE\nLOADED = []\n{JOB}")
    first = load_function(f"{file}:daily")
    assert load_function(f"{file}:daily") is first
    assert sys.modules[file.stem].VALUE == 7
    del sys.modules[f"{file.stem}_neighbour"]


def test_a_missing_file_names_one_like_it(file):
    file.write_text(JOB)
    with pytest.raises(
        OriginError, match=rf"there is no file .*{file.stem}s.py; looked in .*; did you mean .*{file.name}\?"
    ):
        load_function(f"{file.with_name(file.stem + 's.py')}:daily")


def test_a_missing_function_names_one_like_it(file):
    file.write_text(JOB)
    with pytest.raises(OriginError, match=r"no function 'dayly'.*its job functions are daily; did you mean .*:daily\?"):
        load_function(f"{file}:dayly")


def test_a_file_with_no_or_several_job_functions_asks_for_a_name(file):
    file.write_text(JOB + "\ndef other() -> Job:\n    ...\n")
    with pytest.raises(
        OriginError, match=r"does not hold exactly one job function; found daily, other; write .*:function"
    ):
        load_function(str(file))


def test_a_name_that_is_no_function_is_refused(file):
    file.write_text("daily = 7")
    with pytest.raises(OriginError, match=r"'daily' in .* is not a function; it is a int"):
        load_function(f"{file}:daily")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def (", r"SyntaxError: .*\(line 1\)"),
        ("\n\n1/0", r"ZeroDivisionError: division by zero \(line 3\)"),
        ("import nonesuch", "ModuleNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_loaded_says_why_and_where_in_one_line(file, text, says):
    file.write_text(text)
    with pytest.raises(OriginError, match=says) as caught:
        load_function(f"{file}:daily")
    assert caught.value.exit_code == 2
    assert file.stem not in sys.modules


def execution(origin: Origin | None, **parameters) -> JobExecution:
    return JobExecution(
        7, InstanceKey("daily", ""), 1, Status.COMPLETED, datetime.now(UTC), parameters=parameters, origin=origin
    )


def test_a_job_is_built_again_with_its_parameters(file):
    file.write_text(JOB)
    job = rebuild(execution(Origin(str(file), "daily"), day=date(2026, 1, 2)))
    assert isinstance(job, Job)
    assert job.parameters == {"day": date(2026, 1, 2)}


def test_members_of_enums_are_built_again_from_their_values(file):
    file.write_text(JOB)
    job = rebuild(execution(Origin(str(file), "daily"), day=date(2026, 1, 2), colour="red", maybe="red"))
    assert job.name == "daily RED Colour.RED"


@pytest.mark.parametrize("origin", [None, Origin("", "daily")])
def test_a_job_that_was_built_by_hand_cannot_be_built_again(origin):
    with pytest.raises(NotReplayableError, match=r"run 7 .*batchwright.replay\(7, job=…\)"):
        rebuild(execution(origin))


def test_a_job_whose_file_is_gone_cannot_be_built_again(tmp_path):
    with pytest.raises(OriginError, match="there is no file"):
        rebuild(execution(Origin(str(tmp_path / "gone.py"), "daily")))
