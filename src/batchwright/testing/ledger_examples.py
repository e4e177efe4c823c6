"""Keys, requests and failures for the suite of ledgers, and what it says about them.

The one rule: an example has a value in every field, and no two fields the same, so that none can be mixed up.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Counts, InstanceKey, StepKey
from batchwright.model.execution import JobExecution, RunRequest, StepOutcome
from batchwright.model.failure import Failure, PayloadKind, Phase
from batchwright.model.status import Status
from batchwright.ports import History, Ledger

KEY = InstanceKey("daily-sales", "0123abcd")

OTHER_KEY = InstanceKey("daily-sales", "ffff0000")

COUNTS = Counts(100, 90, 6, 1, 2, 1, 180, 5, 4, 3)

EVERY_TYPE: dict[str, Any] = {
    "none": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**80],
    "floats": [0.1, -1e300],
    "texts": ["", "Zoë 🛫", "a\x00b", "' \" \\ \n", "$date"],
    "date": date(2026, 11, 22),
    "datetime": datetime(2026, 11, 22, 12, 30, 1, 5, tzinfo=UTC),
    "time": time(23, 59),
    "timedelta": timedelta(days=-1, microseconds=7),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "bytes": b"\x00\xff",
    "path": Path("/data/in"),
    "tuple": (1, (2, "x")),
    "set": {1, 2, 3},
    "keys": {1: "integer", "$odd": "dollar"},
}


class LedgerUnderTest:
    """What the tests need of whoever derives from the suite."""

    def ledger(self) -> Ledger:
        """A new, empty ledger."""
        raise NotImplementedError

    def reopened(self, ledger: Ledger) -> Ledger:
        """Another object on the same record; the same object if the record cannot outlive it."""
        return ledger

    def history(self, ledger: Ledger) -> History:
        """The readers' side of this record."""
        raise NotImplementedError


def keys_that_differ() -> list[StepKey]:
    """A key, and others that differ from it in one part each: all of them count."""
    key = step_key()
    return [
        key,
        replace(key, job="other"),
        replace(key, parameters_hash="other"),
        replace(key, lap=2),
        replace(key, step="other"),
        replace(key, partition=1),
    ]


def step_key(step: str = "load", lap: int = 1, key: InstanceKey = KEY, partition: int = 0) -> StepKey:
    """The key of a step of the suite's job."""
    return StepKey(key.job, key.parameters_hash, lap, step, partition)


def a_request(**changes: Any) -> RunRequest:
    """A request to begin a run, with these fields changed."""
    return replace(RunRequest(KEY, {}, ("load", "report")), **changes)


def an_outcome(status: Status = Status.RUNNING) -> StepOutcome:
    """An outcome with counts that are all different."""
    return StepOutcome(status, COUNTS, 1.25, 4096)


def a_failure(ordinal: int, **changes: Any) -> Failure:
    """A failure at this ordinal, with these fields changed."""
    failure = Failure(
        step="load",
        position=Position(ordinal),
        phase=Phase.PROCESS,
        error_type="ValueError",
        error=f"no such shop {ordinal}",
        attempts=1,
        place=Place("in/sales.csv", ordinal + 2, ordinal * 10),
        at=datetime(2026, 11, 22, 6, 0, tzinfo=UTC),
        payload='{"v":1,"value":{}}',
        payload_kind=PayloadKind.JSON,
    )
    return replace(failure, **changes)


def start_run(ledger: Ledger, **changes: Any) -> JobExecution:
    """Begin a run and move it to RUNNING; the caller owns the instance."""
    run = ledger.begin_run(a_request(**changes))
    ledger.move_run(run.id, Status.RUNNING)
    return run


def run_to(ledger: Ledger, status: Status, error: str = "", **changes: Any) -> JobExecution:
    """Own an instance, run it, and end with this status."""
    with ledger.own(changes.get("key", KEY)):
        run = start_run(ledger, **changes)
        ledger.move_run(run.id, status, error)
    return run


def last_run(ledger: Ledger) -> JobExecution:
    """The last run of the suite's instance, which must be there."""
    run = ledger.last_run(KEY)
    assert run is not None
    return run


def status_of(ledger: Ledger, run: JobExecution) -> Status:
    """The status of the last run, which must be this one."""
    found = last_run(ledger)
    assert found.id == run.id
    return found.status


def ordinals(ledger: Ledger, key: StepKey | None = None) -> list[int]:
    """Where the failures under this key are."""
    return [failure.ordinal for failure in ledger.load_failures(key or step_key())]


class Raising:
    """Expect an error of exactly this class from the block; afterwards it is `error`."""

    def __init__(self, expected: type[BaseException]) -> None:
        """Name the class."""
        self._expected = expected
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            raise AssertionError(f"no {self._expected.__name__} was raised")
        self.error = error
        return kind is self._expected


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal, and equal in type all the way down: 1 is not True, a Path no text."""
    assert found == expected
    assert repr(sorted(found.items())) == repr(sorted(expected.items()))
