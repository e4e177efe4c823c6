"""How worker processes get at a step's function; each case in processes of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from batchwright import Job, Step, run
from batchwright.launch import bind
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import DeclarationError
from batchwright.recipes import ByReference
from batchwright.runners import Processes
from batchwright.testing.runner_examples import double

MADE_INSIDE = """
from typing import Annotated
from batchwright import Job, Secret, Skip, Step
from batchwright.runners import Processes

class Refused(Exception):
    pass

def shop(rate: int, token: Annotated[str, Secret]) -> Job:
    class OfShop(Refused):
        pass

    def priced(item):
        if item == 3:
            raise OfShop(len(token))
        return {"price": item * rate}

    step = Step("s", read=range(5), process=priced, write=print, runner=Processes(2), skip=Skip(on=OfShop))
    return Job("shop", step)
"""

SCRIPT = """
from dataclasses import dataclass
from batchwright import Job, Step, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.runners import Processes

@dataclass
class Sale:
    number: int

def doubled(sale: Sale) -> Sale:
    return Sale(sale.number * 2)

def sales() -> list[Sale]:
    return [Sale(number) for number in range(3)]

def job(process: str) -> Job:
    function = doubled if process == "named" else lambda sale: Sale(sale.number * 2)
    return Job("j", Step("s", read=sales, process=function, write=print, runner=Processes(1)))

GUARD
    for process in ("named", "made"):
        run(Job.of(job, process=process), ledger=MemoryLedger())
"""


def started(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)


def test_a_function_at_the_top_of_a_module_goes_by_its_name():
    step = Step("s", read=range(3), process=double, write=len, runner=Processes(1))
    recipe = bind(Job("j", step), durable=False)["s"].recipe
    assert isinstance(recipe, ByReference)
    assert recipe.sources == ()
    assert recipe()[0] is double


def test_a_function_made_inside_a_job_function_comes_from_the_job_built_again(tmp_path: Path):
    (tmp_path / "csv.py").write_text(MADE_INSIDE)
    command = ("run", "csv.py:shop", "--rate", "2", "--token", "s3cret", "--tolerate-failures", "--no-progress")
    done = started(tmp_path, "-P", "-m", "batchwright", *command)
    assert done.returncode == 0, done.stderr
    assert "[{'price': 0}, {'price': 2}, {'price': 4}, {'price': 8}]" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_a_script_is_loaded_by_its_workers_but_for_what_it_guards(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("GUARD", 'if __name__ == "__main__":'))
    done = started(tmp_path, "script.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[Sale(number=0), Sale(number=2), Sale(number=4)]\n" * 2


def test_a_script_without_a_guard_is_refused_before_anything_is_recorded(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("GUARD", "if True:"))
    done = started(tmp_path, "script.py")
    assert "worker processes load" in done.stderr
    assert 'put them below if __name__ == "__main__":' in done.stderr
    assert done.stdout == ""


def test_a_guard_that_guards_nothing_is_found_when_a_worker_loads_the_script(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("GUARD", 'NAME = "__main__"\nif True:'))
    done = started(tmp_path, "script.py")
    assert "run was called while a worker process loads the script" in done.stderr
    assert done.stdout == ""


def test_what_no_process_can_get_at_is_refused_before_anything_is_recorded():
    ledger = MemoryLedger()
    step = Step("s", read=range(3), process=lambda item: item, write=len, runner=Processes(1))
    with pytest.raises(DeclarationError, match=r"step 's': worker processes cannot get at function:.*define it at"):
        run(step, ledger=ledger)
    assert ledger.last_run(Job("s", step).key) is None


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"workers": 2, "recycle_after": 0}, "recycle_after must be at least 1"),
        ({"workers": 2, "memory_limit": "much"}, "memory_limit must be a size; got 'much'; write \"2 GB\", or bytes"),
        ({"workers": 2, "memory_limit": 0}, "memory_limit must be at least 1"),
    ],
)
def test_processes_that_cannot_be_meant_are_refused(options: dict[str, object], wrong: str):
    with pytest.raises(DeclarationError, match=wrong):
        Processes(**options)


PARTITIONS_IN_A_SCRIPT = """
from batchwright import Job, Skip, Step, run
from batchwright.runners import Processes
from batchwright.writers import insert

class Odd(Exception):
    pass

def even(item):
    if item["n"] % 2:
        raise Odd(item["n"])
    return item

def job(password: str) -> Job:
    assert password == "s3cret"
    how = dict(partitions=3, runner=Processes(2), skip=Skip(on=Odd))
    read = [{"n": n} for n in range(9)]
    return Job("j", Step("s", read=read, process=even, write=insert("sqlite:///t.db", "t"), **how))

if __name__ == "__main__":
    result = run(Job.of(job, password="s3cret"), ledger="ledger.db")
    print(result.written, sorted({failure.error_type for failure in result.failures}))
"""


def test_a_script_has_its_partitions_worked_on_by_processes(tmp_path: Path):
    (tmp_path / "script.py").write_text(PARTITIONS_IN_A_SCRIPT)
    done = started(tmp_path, "script.py")
    assert (done.returncode, done.stdout) == (0, "5 ['Odd']\n"), done.stderr
