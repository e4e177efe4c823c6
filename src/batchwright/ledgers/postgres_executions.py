"""Executions of jobs and steps in a PostgreSQL ledger: begun, moved and closed.

The one rule: nothing here commits, and every change of status is a compare-and-set that touches exactly one row.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batchwright.databases.postgres import driver
from batchwright.databases.postgres_texts import unescaped
from batchwright.databases.records import COUNTS, KEY, key_values, storable
from batchwright.ledgers import execution_rows as rows
from batchwright.ledgers.lost_steps import require_lost
from batchwright.ledgers.postgres_session import run
from batchwright.ledgers.transitions import LIVE, closed_as, owner_gone, refused, stop_request, this_host
from batchwright.model.checkpoint import Counts, InstanceKey, StepKey
from batchwright.model.execution import JobExecution, RunRequest, StepExecution, StepOutcome
from batchwright.model.status import Status, sources_of

if TYPE_CHECKING:
    from batchwright.databases.postgres import Connection

JOBS, STEPS = "batchwright_job_executions", "batchwright_step_executions"

_RUNS = f"SELECT {', '.join(rows.RUN_COLUMNS)} FROM {{schema}}.{JOBS}"  # noqa: S608 - our own column names
_STEPS = f"SELECT {', '.join(rows.STEP_COLUMNS)} FROM {{schema}}.{STEPS}"  # noqa: S608 - as above
_OF_INSTANCE = "job = %s AND parameters_hash = %s"
_OF_STEP = " AND ".join(f"{column} = %s" for column in KEY)

_OPEN_LAP = (
    "INSERT INTO {schema}.batchwright_instances AS known (job, parameters_hash, lap) VALUES (%s, %s, %s) "
    "ON CONFLICT (job, parameters_hash) DO UPDATE SET lap = greatest(known.lap + %s, excluded.lap) RETURNING lap"
)

_MOVE_RUN = (
    f"UPDATE {{schema}}.{JOBS} SET status = %s, seen_at = now(), error = coalesce(nullif(%s, ''), error), "  # noqa: S608 - as above
    "ended_at = CASE WHEN %s THEN NULL ELSE coalesce(ended_at, now()) END WHERE id = %s AND status = ANY(%s)"
)

_REQUEST_STOP = (
    f"UPDATE {{schema}}.{JOBS} SET stop_requested = coalesce(nullif(stop_requested, ''), %s) "  # noqa: S608 - as above
    "WHERE id = %s AND status = ANY(%s)"
)

_SET_OUTCOME = (
    f"UPDATE {{schema}}.{STEPS} SET seen_at = now(), "  # noqa: S608 - as above
    + ", ".join(f"{column} = %s" for column in rows.OUTCOME_COLUMNS)
)

_CLOSE_STEPS = (
    f"UPDATE {{schema}}.{STEPS} SET status = %s, error = %s, ended_at = seen_at WHERE run = %s AND status = ANY(%s)"  # noqa: S608 - as above
)

_CLOSE_RUN = (
    f"UPDATE {{schema}}.{JOBS} SET status = %s, error = %s, ended_at = greatest(seen_at, "  # noqa: S608 - as above
    f"(SELECT max(seen_at) FROM {{schema}}.{STEPS} WHERE run = %s)) WHERE id = %s AND status = %s"
)


def last_run(connection: "Connection", schema: str, key: InstanceKey) -> JobExecution | None:
    """The newest execution of kind `run` of an instance."""
    sql = f"{_RUNS} WHERE {_OF_INSTANCE} AND kind = 'run' ORDER BY id DESC LIMIT 1"
    return _run_of(run(connection, schema, sql, (key.job, key.parameters_hash)).fetchone())


def find_run(connection: "Connection", schema: str, number: int) -> JobExecution | None:
    """One execution."""
    return _run_of(run(connection, schema, f"{_RUNS} WHERE id = %s", (number,)).fetchone())


def begin_run(connection: "Connection", schema: str, request: RunRequest, epoch: int) -> JobExecution:
    """Close what a dead owner left, and insert a new execution in the last or the next lap."""
    key, described = request.key, rows.request_values(request)
    close_lost(connection, schema, key)
    lap = (key.job, key.parameters_hash, request.at_least_lap, int(request.next_lap))
    values = {
        "job": key.job,
        "parameters_hash": key.parameters_hash,
        "lap": run(connection, schema, _OPEN_LAP, lap).fetchone()[0],
        "epoch": epoch,
        "status": Status.STARTING.value,
        **described,
        "host": this_host(),
        "pid": os.getpid(),
        "error": "",
    }
    begun = _run_of(_insert(connection, schema, JOBS, values, rows.RUN_COLUMNS))
    assert begun is not None  # noqa: S101 - for the type checker: an INSERT … RETURNING returns
    return begun


def close_lost(connection: "Connection", schema: str, key: InstanceKey) -> None:
    """Close the live executions of an instance, and their steps: their owner is gone."""
    sql, live = f"{_RUNS} WHERE {_OF_INSTANCE} AND status = ANY(%s)", [status.value for status in LIVE]
    for row in run(connection, schema, sql, (key.job, key.parameters_hash, live)).fetchall():
        lost = rows.run_of(row)
        error, status = owner_gone(lost.pid, lost.host), closed_as(lost.status).value
        run(connection, schema, _CLOSE_STEPS, (status, error, lost.id, live))
        run(connection, schema, _CLOSE_RUN, (status, error, lost.id, lost.id, lost.status.value))


def move_run(connection: "Connection", schema: str, number: int, status: Status, error: str, doubts: int) -> None:
    """Compare and set a run's status. Raises FencedError or LedgerError if it is not one that may become this one."""
    values = (status.value, storable(error), status.live, number, _sources(status))
    if run(connection, schema, _MOVE_RUN, values).rowcount == 1:
        return
    found = _status(connection, schema, JOBS, number)
    # After a commit in doubt: it was done.
    if not (doubts and found is status):
        raise refused("run", number, found, status)


def request_stop(connection: "Connection", schema: str, number: int, who: str) -> bool:
    """Note on a live run, whoever owns it, that it is to stop; the first request stays."""
    values = (storable(stop_request(who)), number, [status.value for status in LIVE])
    return bool(run(connection, schema, _REQUEST_STOP, values).rowcount == 1)


def forget_runs(connection: "Connection", schema: str, key: InstanceKey, numbers: Sequence[int]) -> int:
    """Delete runs of an instance with their steps; how many runs."""
    values = (key.job, key.parameters_hash, list(numbers))
    run(connection, schema, f"DELETE FROM {{schema}}.{STEPS} WHERE {_OF_INSTANCE} AND run = ANY(%s)", values)  # noqa: S608 - as above
    deleted = run(connection, schema, f"DELETE FROM {{schema}}.{JOBS} WHERE {_OF_INSTANCE} AND id = ANY(%s)", values)  # noqa: S608 - as above
    return int(deleted.rowcount)


def shrink(connection: "Connection", schema: str) -> str:
    """Let the server use the space again, outside any transaction; why not, if the tables are not ours."""
    tables = (JOBS, STEPS, "batchwright_checkpoints", "batchwright_failures", "batchwright_fences")
    try:
        for table in tables:
            run(connection, schema, f"VACUUM {{schema}}.{table}")
    except driver().Error as error:
        return f"the server has not been asked to use the space again: {' '.join(str(error).split())}"
    return ""


def last_step(connection: "Connection", schema: str, key: StepKey) -> StepExecution | None:
    """The newest execution of a step in a lap, of kind `run`."""
    sql = f"{_STEPS} WHERE {_OF_STEP} AND kind = 'run' ORDER BY run DESC, id DESC LIMIT 1"
    return _step_of(run(connection, schema, sql, key_values(key)).fetchone())


def find_step(connection: "Connection", schema: str, number: int) -> StepExecution | None:
    """One execution of a step."""
    return _step_of(run(connection, schema, f"{_STEPS} WHERE id = %s", (number,)).fetchone())


def begin_step(
    connection: "Connection", schema: str, number: int, key: StepKey, described: Mapping[str, str]
) -> StepExecution:
    """Insert an execution of a step, with its lap's counts so far. Raises FencedError if the run is closed."""
    found = find_run(connection, schema, number)
    if found is None or not found.status.live:
        raise refused("run", number, found.status if found else None, Status.RUNNING)
    before = last_step(connection, schema, key) if found.kind == "run" else None
    values = {
        "run": number,
        "kind": found.kind,
        **dict(zip(KEY, key_values(key), strict=True)),
        "status": Status.RUNNING.value,
        **dict(zip(COUNTS, rows.count_values(before.counts if before else Counts()), strict=True)),
        "target_identity": storable(before.target_identity) if before else "",
        **{column: storable(text) for column, text in described.items()},
    }
    begun = _step_of(_insert(connection, schema, STEPS, values, rows.STEP_COLUMNS))
    assert begun is not None  # noqa: S101 - as above
    return begun


def note_step(connection: "Connection", schema: str, number: int, outcome: StepOutcome) -> None:
    """Set the outcome of a step that is live. Raises FencedError or LedgerError."""
    values = (*rows.outcome_values(outcome), number, list(LIVE))
    if run(connection, schema, f"{_SET_OUTCOME} WHERE id = %s AND status = ANY(%s)", values).rowcount != 1:
        raise refused("step execution", number, _status(connection, schema, STEPS, number), Status.RUNNING)


def note_lost(connection: "Connection", schema: str, number: int, outcome: StepOutcome, owned: Collection[Any]) -> None:
    """Set the outcome of a step that was closed for a dead owner. Raises FencedError or LedgerError."""
    require_lost(find_step(connection, schema, number), number, owned)
    run(connection, schema, f"{_SET_OUTCOME} WHERE id = %s", (*rows.outcome_values(outcome), number))


def end_step(connection: "Connection", schema: str, number: int, outcome: StepOutcome, doubts: int) -> None:
    """Compare and set a step's status, with its outcome. Raises FencedError or LedgerError."""
    status = outcome.status
    sql = f"{_SET_OUTCOME}, status = %s, ended_at = now() WHERE id = %s AND status = ANY(%s)"
    values = (*rows.outcome_values(outcome), status.value, number, _sources(status))
    if run(connection, schema, sql, values).rowcount == 1:
        return
    found = _status(connection, schema, STEPS, number)
    if not (doubts and found is status):
        raise refused("step execution", number, found, status)


def _insert(
    connection: "Connection", schema: str, table: str, values: Mapping[str, Any], returned: Sequence[str]
) -> Sequence[Any]:
    marks = ", ".join(["%s"] * len(values))
    sql = f"INSERT INTO {{schema}}.{table} ({', '.join(values)}) VALUES ({marks}) RETURNING {', '.join(returned)}"  # noqa: S608 - our own column names
    row: Sequence[Any] = run(connection, schema, sql, tuple(values.values())).fetchone()
    return row


def _status(connection: "Connection", schema: str, table: str, number: int) -> Status | None:
    row = run(connection, schema, f"SELECT status FROM {{schema}}.{table} WHERE id = %s", (number,)).fetchone()  # noqa: S608 - our own names
    return None if row is None else Status(row[0])


def _sources(status: Status) -> list[str]:
    return [source.value for source in sources_of(status)]


def _run_of(row: Sequence[Any] | None) -> JobExecution | None:
    return None if row is None else rows.run_of([*map(unescaped, row)])


def _step_of(row: Sequence[Any] | None) -> StepExecution | None:
    return None if row is None else rows.step_of([*map(unescaped, row)])
