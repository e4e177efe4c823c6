"""What `--json` prints: results, executions and failures as plain dictionaries.

The one rule: `schema_version` changes when a name goes or changes its meaning; new names may be added.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from pathlib import Path
from typing import Any

from batchwright.model.checkpoint import Counts
from batchwright.model.effect import EffectCount
from batchwright.model.execution import FailureGroup, InstanceSummary, JobExecution, StepExecution
from batchwright.model.result import JobResult, StepResult
from batchwright.model.waits import Waits

SCHEMA_VERSION = 1

TOLD_AS_JSON = "told_as_json"
"""An attribute of errors that a command has printed an object for already."""


def document(**content: Any) -> dict[str, Any]:
    """An object to print, with its version first."""
    return {"schema_version": SCHEMA_VERSION, **content}


def result_document(result: JobResult, exit_code: int) -> dict[str, Any]:
    """How a run ended."""
    return document(
        run=result.run or None,
        job=result.job,
        lap=result.lap,
        status=result.status.value,
        already_complete=result.already_complete,
        counts=counts_document(result.counts),
        steps=[_step_result(step) for step in result.steps],
        seconds=round(result.seconds, 6),
        peak_memory_bytes=result.peak_memory_bytes,
        failures=len(result.failures),
        failure_file=result.failure_file or None,
        warnings=list(result.warnings),
        ledger=result.ledger,
        exit_code=exit_code,
        error=result.error or None,
    )


def error_document(job: str, error: BaseException, exit_code: int) -> dict[str, Any]:
    """A run that did not start: the same names, as far as they mean anything."""
    return document(
        run=None, job=job, lap=None, status=None, steps=[], failures=0, exit_code=exit_code, error=str(error)
    )


def counts_document(counts: Counts) -> dict[str, int]:
    """The four counts of input items, and what stands beside them."""
    return {
        "read": counts.read,
        "written": counts.written,
        "filtered": counts.filtered,
        "failed": counts.failed,
        "failed_read": counts.failed_read,
        "failed_process": counts.failed_process,
        "failed_write": counts.failed_write,
        "outputs": counts.outputs,
        "retried": counts.retried,
        "commits": counts.commits,
        "rollbacks": counts.rollbacks,
    }


def execution_document(
    execution: JobExecution, steps: Sequence[StepExecution], replay_of: int | None = None
) -> dict[str, Any]:
    """A run as the ledger knows it; for a replay, `replay_of` is the run whose failures it took up."""
    return {
        "run": execution.id,
        "job": execution.job,
        "lap": execution.lap,
        "kind": execution.kind,
        "replay_of": replay_of,
        "status": execution.status.value,
        "parameters": plain_parameters(execution.parameters),
        "started_at": execution.started_at.isoformat(),
        "ended_at": execution.ended_at.isoformat() if execution.ended_at else None,
        "counts": counts_document(sum((step.counts for step in steps), Counts())),
        "steps": [_step_execution(step) for step in steps],
        "origin": str(execution.origin) if execution.origin else None,
        "host": execution.host,
        "pid": execution.pid,
        "stop_requested": execution.stop_requested or None,
        "error": execution.error or None,
    }


def instance_document(each: InstanceSummary, following: Sequence[str]) -> dict[str, Any]:
    """A piece of work by its newest run."""
    run = each.run
    return {
        "job": run.job,
        "parameters": plain_parameters(run.parameters),
        "run": run.id,
        "lap": run.lap,
        "status": each.status.value,
        "started_at": run.started_at.isoformat(),
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
        "executions": each.executions,
        "open_failures": each.open_failures,
        "origin": str(run.origin) if run.origin else None,
        "error": run.error or None,
        "next": list(following),
    }


def effects_document(counts: Sequence[EffectCount]) -> dict[str, dict[str, int]]:
    """How many effects of each step are in which state."""
    found: dict[str, dict[str, int]] = {}
    for count in counts:
        found.setdefault(count.step, {})[count.state.value] = count.count
    return found


def group_document(group: FailureGroup) -> dict[str, Any]:
    """Failures with one cause."""
    return {
        "step": group.step,
        "phase": group.phase,
        "error_type": group.error_type,
        "message": group.message,
        "count": group.count,
        "open": group.open,
        "ignored": group.ignored,
        "first_place": group.first_place,
        "example": group.example,
    }


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON has them: dates in ISO form, paths as text."""
    return {name: plain_value(value) for name, value in parameters.items()}


def plain_value(value: Any) -> Any:
    """The value as JSON has it: dates in ISO form, decimals, UUIDs and paths as text."""
    if isinstance(value, Enum):
        return plain_value(value.value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain_value(entry) for key, entry in value.items()}
    return [plain_value(entry) for entry in value] if isinstance(value, list | tuple) else str(value)


def _step_result(step: StepResult) -> dict[str, Any]:
    return {
        "name": step.name,
        "status": step.status.value if step.status else None,
        "already_complete": step.already_complete,
        "guarantee": step.guarantee,
        "counts": counts_document(step.counts),
        "seconds": round(step.seconds, 6),
        "peak_memory_bytes": step.peak_memory_bytes,
        "waited_seconds": _waits(step.waits),
        "error": step.error or None,
    }


def _step_execution(step: StepExecution) -> dict[str, Any]:
    return {
        "name": step.key.step,
        "run": step.run,
        "status": step.status.value,
        "guarantee": step.guarantee,
        "source": step.source,
        "target": step.target,
        "counts": counts_document(step.counts),
        "seconds": round(step.seconds, 6),
        "peak_memory_bytes": step.peak_memory_bytes,
        "waited_seconds": _waits(step.waits),
        "error": step.error or None,
    }


def _waits(waits: Waits) -> dict[str, float]:
    return {name: round(getattr(waits, name), 6) for name in ("reading", "processing", "writing")}
