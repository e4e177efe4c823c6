"""Executions as rows and back, and how SQLite's errors read when the file is a ledger.

The one rule: the order of columns is said once, here, for the side that writes and the side that reads.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchwright.databases.migrations import Migration, numbered_scripts
from batchwright.databases.records import storable
from batchwright.databases.sqlite import explained
from batchwright.model.checkpoint import Counts, InstanceKey, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.errors import AlreadyRunningError, BatchwrightError, LedgerError, TargetError
from batchwright.model.execution import JobExecution, Origin, RunRequest, StepExecution, StepOutcome
from batchwright.model.status import Status

COMPONENT = "ledger"

COUNT_COLUMNS = tuple(field.name for field in fields(Counts))

RUN_COLUMNS = (
    "id", "job", "parameters_hash", "lap", "status", "started_at", "ended_at",
    "kind", "parameters", "steps", "origin", "host", "pid", "error",
)  # fmt: skip

OUTCOME_COLUMNS = (*COUNT_COLUMNS, "seconds", "peak_memory_bytes", "error")

STEP_COLUMNS = (
    "id", "run", "job", "parameters_hash", "lap", "step", "partition", "status", "started_at", "ended_at",
    *OUTCOME_COLUMNS, "source", "target", "guarantee",
)  # fmt: skip

OTHER_LEDGER = "name another ledger with --ledger PATH or BATCHWRIGHT_LEDGER"


def migrations() -> list[Migration]:
    """The numbered scripts of the ledger's own tables."""
    return numbered_scripts(Path(__file__).parent, "sqlite_[0-9]*_ledger.sql")


def lock_folder(path: Path) -> Path:
    """Where the locks of the ledger at this path are."""
    return path.parent / "locks"


def now() -> str:
    """The present, in a form that sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def run_of(row: Sequence[Any]) -> JobExecution:
    """An execution from `RUN_COLUMNS`."""
    number, job, parameters_hash, lap, status, started_at, ended_at, kind, *rest = row
    parameters, steps, origin, host, pid, error = rest
    return JobExecution(
        id=number,
        key=InstanceKey(job, parameters_hash),
        lap=lap,
        status=Status(status),
        started_at=datetime.fromisoformat(started_at),
        ended_at=_moment(ended_at),
        kind=kind,
        parameters=decode(parameters),
        steps=tuple(decode(steps)),
        origin=None if origin is None else Origin(*decode(origin)),
        host=host,
        pid=pid,
        error=error,
    )


def request_values(request: RunRequest) -> dict[str, Any]:
    """What a request says, by column."""
    origin = request.origin
    return {
        "kind": request.kind,
        "parameters": storable(encode(dict(request.parameters))),
        "steps": storable(encode(list(request.steps))),
        "origin": None if origin is None else storable(encode([origin.path, origin.function, origin.digest])),
    }


def step_of(row: Sequence[Any]) -> StepExecution:
    """An execution of a step from `STEP_COLUMNS`."""
    number, run, job, parameters_hash, lap, step, partition, status, started_at, ended_at, *rest = row
    counts, rest = rest[: len(COUNT_COLUMNS)], rest[len(COUNT_COLUMNS) :]
    seconds, peak_memory_bytes, error, source, target, guarantee = rest
    return StepExecution(
        id=number,
        run=run,
        key=StepKey(job, parameters_hash, lap, step, partition),
        status=Status(status),
        started_at=datetime.fromisoformat(started_at),
        ended_at=_moment(ended_at),
        counts=Counts(*counts),
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes,
        error=error,
        source=source,
        target=target,
        guarantee=guarantee,
    )


def count_values(counts: Counts) -> tuple[int, ...]:
    """Counts in the order of `COUNT_COLUMNS`."""
    return tuple(getattr(counts, column) for column in COUNT_COLUMNS)


def outcome_values(outcome: StepOutcome) -> tuple[Any, ...]:
    """An outcome in the order of `OUTCOME_COLUMNS`."""
    return (*count_values(outcome.counts), outcome.seconds, outcome.peak_memory_bytes, storable(outcome.error))


@contextlib.contextmanager
def explaining(path: Path) -> Iterator[None]:
    """Raise SQLite's errors in our words: WriteError for a lock or a failing disk, else LedgerError."""
    try:
        yield
    except sqlite3.Error as error:
        found = explained(error, path)
        raise (as_ledger_error(found) if isinstance(found, TargetError) else found) from error


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Raise whatever goes wrong while a ledger is opened as a LedgerError that names the way out."""
    try:
        yield
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} cannot be opened", f"{error.strerror}: {error.filename}", OTHER_LEDGER
        ) from error
    except sqlite3.Error as error:
        raise as_ledger_error(explained(error, path)) from error
    except AlreadyRunningError as error:
        raise LedgerError(f"the ledger {path} is being created by {error.where}", "", OTHER_LEDGER) from error
    except BatchwrightError as error:
        raise as_ledger_error(error) from error


def as_ledger_error(error: BatchwrightError) -> LedgerError:
    """Another error about the ledger's file, with the way out named."""
    wrong = error.wrong if isinstance(error, LedgerError) else f"the ledger cannot be used: {error.wrong}"
    mend = error.mend or OTHER_LEDGER
    return LedgerError(wrong, error.found, mend if OTHER_LEDGER in mend else f"{mend}, or {OTHER_LEDGER}")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
