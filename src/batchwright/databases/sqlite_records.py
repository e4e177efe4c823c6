"""Checkpoint and failure rows in a SQLite database, for targets and for the ledger alike.

The one rule: nothing here commits. The caller's transaction holds data, checkpoint and failures together.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from batchwright.databases.sqlite_schema import Migration, migrate, numbered_scripts, schema_version
from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.errors import FencedError
from batchwright.model.failure import Failure, FailureState, PayloadKind, Phase
from batchwright.model.fault_points import reach

COMPONENT = "records"

_COUNTS = tuple(field.name for field in fields(Counts))
_count_values = attrgetter(*_COUNTS)
_KEY = ("job", "parameters_hash", "lap", "step", "partition")
_KEYED = " AND ".join(f"{column} = ?" for column in _KEY)
_MOVED = ("ordinal", "anchor", '"offset"', *_COUNTS, "state", "finished", "updated_at")
_FAILURE = (
    "ordinal", "anchor", '"offset"', "phase", "error_type", "error", "attempts",
    "source", "line", "byte", "detail", "payload", "payload_kind", "state", "at",
)  # fmt: skip

_INSERT_CHECKPOINT = (
    f"INSERT INTO batchwright_checkpoints ({', '.join((*_KEY, *_MOVED))}) "  # noqa: S608 - our own column names
    f"VALUES ({', '.join('?' * (len(_KEY) + len(_MOVED)))})"
)
_REPLACE_CHECKPOINT = _INSERT_CHECKPOINT.replace("INSERT", "INSERT OR REPLACE", 1)
_MOVE_CHECKPOINT = (
    f"UPDATE batchwright_checkpoints SET {', '.join(f'{column} = ?' for column in _MOVED)} "  # noqa: S608 - as above
    f"WHERE {_KEYED} AND ordinal = ? AND commits = ? AND finished = 0"
)
_SELECT_CHECKPOINT = f"SELECT {', '.join(_MOVED)} FROM batchwright_checkpoints WHERE {_KEYED}"  # noqa: S608 - as above
_INSERT_FAILURE = (
    f"INSERT OR IGNORE INTO batchwright_failures ({', '.join((*_KEY, *_FAILURE))}) "  # noqa: S608 - as above
    f"VALUES ({', '.join('?' * (len(_KEY) + len(_FAILURE)))})"
)
_SELECT_FAILURES = (
    f"SELECT {', '.join(('step', *_FAILURE))} FROM batchwright_failures "  # noqa: S608 - as above
    f"WHERE {_KEYED} AND ordinal > ? ORDER BY ordinal LIMIT ?"
)
_PAGE = 100


def prepare(connection: sqlite3.Connection) -> None:
    """Create or upgrade the two tables. Raises LedgerError if they are newer than this version of batchwright."""
    migrate(connection, COMPONENT, migrations())


def prepared(connection: sqlite3.Connection) -> bool:
    """Whether the two tables are there. Writes nothing."""
    return schema_version(connection, COMPONENT) > 0


def migrations() -> list[Migration]:
    """The numbered scripts of this component."""
    return numbered_scripts(Path(__file__).parent, "sqlite_[0-9]*_records.sql")


def get_checkpoint(connection: sqlite3.Connection, key: StepKey) -> Checkpoint | None:
    """The checkpoint stored under this key."""
    row = connection.execute(_SELECT_CHECKPOINT, key_values(key)).fetchone()
    if row is None:
        return None
    ordinal, anchor, offset, *rest = row
    counts, (state, finished, _updated_at) = rest[: len(_COUNTS)], rest[len(_COUNTS) :]
    return Checkpoint(Position(ordinal, decode(anchor), offset), Counts(*counts), decode(state), bool(finished))


def last_lap(connection: sqlite3.Connection, key: StepKey) -> int:
    """The highest lap with a checkpoint of this step; 0 if there is none."""
    (lap,) = connection.execute(
        "SELECT MAX(lap) FROM batchwright_checkpoints WHERE job = ? AND parameters_hash = ? AND step = ?",
        (key.job, key.parameters_hash, key.step),
    ).fetchone()
    return int(lap or 0)


def put_checkpoint(connection: sqlite3.Connection, key: StepKey, checkpoint: Checkpoint) -> None:
    """Store a checkpoint, whatever stood there."""
    connection.execute(_REPLACE_CHECKPOINT, (*key_values(key), *_checkpoint_values(checkpoint)))


def move_checkpoint(connection: sqlite3.Connection, key: StepKey, before: Checkpoint | None, after: Checkpoint) -> None:
    """Store `after` if the row still says `before`. Raises FencedError if somebody else has moved it."""
    values = _checkpoint_values(after)
    if before is None:
        try:
            connection.execute(_INSERT_CHECKPOINT, (*key_values(key), *values))
        except sqlite3.IntegrityError as error:
            raise _fenced(key) from error
    else:
        expected = (before.position.ordinal, before.counts.commits)
        moved = connection.execute(_MOVE_CHECKPOINT, (*values, *key_values(key), *expected))
        if moved.rowcount != 1:
            raise _fenced(key)
    reach("K10")


def put_failures(connection: sqlite3.Connection, key: StepKey, failures: Sequence[Failure]) -> None:
    """Add failures. One that is already there keeps its state."""
    if failures:
        connection.executemany(_INSERT_FAILURE, [(*key_values(key), *_failure_values(failure)) for failure in failures])
        reach("K17")


def get_failures(connection: sqlite3.Connection, key: StepKey) -> Iterator[Failure]:
    """Every failure under this key, by ordinal; read a page at a time, so that the caller may write in between."""
    after = -1
    while page := connection.execute(_SELECT_FAILURES, (*key_values(key), after, _PAGE)).fetchall():
        yield from map(failure_of, page)
        after = page[-1][1]


def void_failures(connection: sqlite3.Connection, key: StepKey, from_ordinal: int) -> None:
    """Forget failures at or past this ordinal."""
    connection.execute(
        f"DELETE FROM batchwright_failures WHERE {_KEYED} AND ordinal >= ?",  # noqa: S608 - as above
        (*key_values(key), from_ordinal),
    )


def settle_failures(connection: sqlite3.Connection, key: StepKey, ordinals: Sequence[int]) -> int:
    """Mark open failures at these ordinals as replayed; how many were."""
    return sum(
        connection.execute(
            f"UPDATE batchwright_failures SET state = ? WHERE {_KEYED} AND ordinal = ? AND state = ?",  # noqa: S608 - as above
            (FailureState.REPLAYED, *key_values(key), ordinal, FailureState.OPEN),
        ).rowcount
        for ordinal in ordinals
    )


def key_values(key: StepKey) -> tuple[Any, ...]:
    """The key as the columns hold it."""
    return (key.job, key.parameters_hash, key.lap, key.step, key.partition)


def failure_of(row: Sequence[Any]) -> Failure:
    """A failure from the columns `step` and those of `failure_columns`, in order."""
    step, ordinal, anchor, offset, phase, error_type, error, attempts, source, line, byte, detail, *rest = row
    payload, payload_kind, state, at = rest
    return Failure(
        step=step,
        position=Position(ordinal, decode(anchor), offset),
        phase=Phase(phase),
        error_type=error_type,
        error=error,
        attempts=attempts,
        place=Place(source, line, byte, detail),
        at=datetime.fromisoformat(at),
        payload=payload,
        payload_kind=PayloadKind(payload_kind),
        state=FailureState(state),
    )


def failure_columns() -> str:
    """The columns that `failure_of` takes, for a SELECT of one's own."""
    return ", ".join(("step", *_FAILURE))


def storable(text: str) -> str:
    """The text with lone surrogates escaped (in JSON: without loss), since SQLite's texts are UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _checkpoint_values(checkpoint: Checkpoint) -> tuple[Any, ...]:
    position = checkpoint.position
    return (
        position.ordinal,
        storable(encode(position.anchor)),
        position.offset,
        *_count_values(checkpoint.counts),
        storable(encode(dict(checkpoint.state))),
        int(checkpoint.finished),
        datetime.now(UTC).isoformat(),
    )


def _failure_values(failure: Failure) -> tuple[Any, ...]:
    position, place = failure.position, failure.place
    return (
        position.ordinal,
        storable(encode(position.anchor)),
        position.offset,
        failure.phase,
        failure.error_type,
        storable(failure.error),
        failure.attempts,
        storable(place.source),
        place.line,
        place.byte,
        storable(place.detail),
        None if failure.payload is None else storable(failure.payload),
        failure.payload_kind,
        failure.state,
        failure.at.isoformat(),
    )


def _fenced(key: StepKey) -> FencedError:
    return FencedError(
        f"step '{key.step}' of job '{key.job}': somebody else has moved its checkpoint in the target",
        "another run of the same work uses another ledger",
        "let one of them end, then run it again",
    )
