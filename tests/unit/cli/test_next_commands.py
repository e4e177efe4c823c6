"""The command to type next."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from batchwright.cli.next_commands import after_execution
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.execution import JobExecution, Origin
from batchwright.model.status import Status


def execution(status: Status, **changes) -> JobExecution:
    settings = {
        "origin": Origin(str(Path("sales.py").absolute()), "daily"),
        "parameters": {"day": date(2026, 11, 22), "dry_run": False, "names": ["a b", "c"], "shop": None},
        **changes,
    }
    return JobExecution(12, InstanceKey("sales", "0"), 1, status, datetime(2026, 11, 22, tzinfo=UTC), **settings)


GO_ON = "batchwright run sales.py:daily --day 2026-11-22 --no-dry-run --names 'a b' --names c"


def test_after_a_clean_end_there_is_nothing_to_do():
    assert after_execution(execution(Status.COMPLETED), 0, None) == []


def test_failures_are_looked_at_and_replayed_once_the_run_is_complete():
    assert after_execution(execution(Status.COMPLETED_WITH_FAILURES), 3, None) == [
        "batchwright failures 12",
        "batchwright replay 12",
    ]


@pytest.mark.parametrize("status", [Status.FAILED, Status.STOPPED, Status.LOST])
def test_a_run_that_did_not_end_well_is_gone_on_with(status):
    assert after_execution(execution(status), 0, None) == [GO_ON]
    assert after_execution(execution(status), 3, None) == ["batchwright failures 12", GO_ON]


def test_a_running_job_is_left_alone():
    assert after_execution(execution(Status.RUNNING), 0, None) == []


def test_the_ledger_is_named_where_it_would_not_be_found():
    assert after_execution(execution(Status.STOPPED, parameters={}), 0, Path("/data/my ledger.db")) == [
        "batchwright run sales.py:daily --ledger '/data/my ledger.db'"
    ]


def test_a_job_started_from_python_names_the_call():
    assert after_execution(execution(Status.FAILED, origin=None), 0, None) == [
        "run it again from Python, with the same parameters: run(sales)"
    ]
