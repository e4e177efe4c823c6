"""The command to type next: every command ends by naming it where there is one."""

import os
import shlex
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from batchwright.model.execution import InstanceSummary, JobExecution, Origin
from batchwright.model.status import Status
from batchwright.places import without_password

GOES_ON = frozenset({Status.FAILED, Status.STOPPED, Status.LOST})


def after_execution(execution: JobExecution, open_failures: int, ledger: Path | str | None) -> list[str]:
    """What to do about a run that the ledger knows. `ledger` is named if it would not be found otherwise."""
    commands = failure_commands(execution.id, execution.status, open_failures, ledger)
    if execution.origin is not None and execution.origin.is_script:
        commands = commands[:1]  # the items that failed cannot be given to a loop's body again
    if execution.kind == "run" and execution.status in GOES_ON:
        commands.append(go_on_command(execution, ledger))
    if execution.status is Status.COMPENSATION_FAILED:
        commands.append(command("rollback", str(execution.id), ledger=ledger))
    return commands


def for_instance(each: InstanceSummary, ledger: Path | str | None) -> list[str]:
    """What to do next about a piece of work, by its newest run, most useful first."""
    run, words = each.run, short_command(each)
    if run.status in GOES_ON and not words:
        return [go_on_command(run, ledger)]
    return [command(*words.split(), ledger=ledger)] if words else []


def short_command(each: InstanceSummary) -> str:
    """The same as the words behind `batchwright`; empty where there is nothing to do, or not from a shell."""
    run = each.run
    if run.status.live:
        return f"stop {run.id}"
    if run.status in GOES_ON:
        return f"resume {run.id}" if can_be_built(run) else ""
    return f"failures {run.id}" if run.status.complete and each.open_failures else ""


def can_be_built(execution: JobExecution) -> bool:
    """Whether a run's job can be built again from a file."""
    origin = execution.origin
    return origin is not None and origin.path.endswith(".py") and not origin.is_script


def failure_commands(run: int, status: Status, open_failures: int, ledger: Path | str | None) -> list[str]:
    """How to look at failures, and how to replay them once the run is complete."""
    if not open_failures:
        return []
    commands = [command("failures", str(run), ledger=ledger)]
    if status.complete:
        commands.append(command("replay", str(run), ledger=ledger))
    return commands


def go_on_command(execution: JobExecution, ledger: Path | str | None) -> str:
    """How to go on with a run; for one that was started from Python, the call."""
    if execution.origin is not None and execution.origin.is_script:
        return f"run the script again: {target_of(execution.origin)}"
    if execution.origin is None or not can_be_built(execution):
        return f"run it again from Python, with the same parameters: run({execution.job})"
    return command("run", target_of(execution.origin), *option_texts(execution.parameters), ledger=ledger)


def from_step_command(execution: JobExecution, step: str, ledger: Path | str | None) -> str:
    """How to run a step, and what comes after it, again."""
    if not can_be_built(execution):
        return f"run it again from Python: run({execution.job}, from_step={step!r}, again=True)"
    return f"{go_on_command(execution, ledger)} --from {shlex.quote(step)} --again"


def command(*words: str, ledger: Path | str | None = None) -> str:
    """A command line that a shell takes as it stands."""
    tail = () if ledger is None else ("--ledger", without_password(ledger))
    return shlex.join(("batchwright", *words, *tail))


def target_of(origin: Origin) -> str:
    """FILE.py:FUNCTION, relative to the working directory where that is shorter."""
    relative = os.path.relpath(origin.path)
    shorter = min(relative, origin.path, key=len)
    return f"{shorter}:{origin.function}" if origin.function else shorter


def option_texts(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Parameters as the options that gave them."""
    for name, value in parameters.items():
        dashed = name.strip("_").replace("_", "-")
        if isinstance(value, bool):
            yield f"--{dashed}" if value else f"--no-{dashed}"
        elif value is not None:
            for entry in value if isinstance(value, list | tuple) else [value]:
                yield from (f"--{dashed}", str(entry.value if isinstance(entry, Enum) else entry))
