"""The command to type next: every command ends by naming it where there is one.

The one rule: what is named is decided here, by the status of the work and by what its job can do.
"""

import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from batchwright.model.execution import FailureGroup, InstanceSummary, JobExecution, Origin
from batchwright.model.status import Status
from batchwright.places import without_password

GOES_ON = frozenset({Status.FAILED, Status.STOPPED, Status.LOST})

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides what can be done next about a piece of work.

    `run` is its newest run, or, with `newer`, one that has been followed by that run. `open_steps` are the steps with
    open failures, where they are known.
    """

    run: JobExecution
    open_failures: int = 0
    open_steps: Collection[str] | None = None
    newer: int | None = None

    @property
    def can_replay(self) -> bool:
        """Whether a replay would take up any of the open failures."""
        can = self.run.replayable
        if not can_be_built(self.run) or not self.run.status.complete:
            return False
        return can is None or any(step in can for step in self.open_steps or can)


def situation_of(run: JobExecution, groups: Sequence[FailureGroup], newer: int | None = None) -> Situation:
    """The situation of a run with these failures."""
    return Situation(run, sum(group.open for group in groups), {group.step for group in groups if group.open}, newer)


def next_steps(now: Situation) -> list[Words | str]:
    """What to do next, most useful first: the words behind `batchwright`, or, where no command can do it, a sentence.

    The one place that decides it. Nothing that would be refused is named; what asks for a yes may be.
    """
    run, number = now.run, str(now.run.id)
    if now.newer is not None:
        return [("show", str(now.newer))]
    if run.status.live:
        return [("stop", number)]
    found: list[Words | str] = [("failures", number)] if now.open_failures else []
    match run.status:
        case Status.COMPENSATION_FAILED | Status.COMPENSATION_LOST:
            return [("rollback", number) if can_be_built(run) else _in_python(f"rollback({number}, job=…)"), *found]
        case Status.ABANDONED | Status.COMPENSATED:
            return [begin_anew(run)]
        case Status.COMPLETED | Status.COMPLETED_WITH_FAILURES:
            return [*found, ("replay", number)] if found and now.can_replay else found
    # What can be gone on with is, whatever failed: its failures wait.
    return [go_on(run), *found]


def next_commands(now: Situation, ledger: Path | str | None) -> list[str]:
    """The same as lines to type. `ledger` is named if it would not be found otherwise."""
    return [in_full(step, now.run, ledger) for step in next_steps(now)]


def short_command(each: InstanceSummary) -> str:
    """The first of them as the words behind `batchwright`; empty where there is nothing to do."""
    step = first_step(Situation(each.run, each.open_failures))
    # A line of its own, or a sentence, is too long for a column: `show` ends with it.
    long = isinstance(step, str) or step[0] == "run"
    return (f"show {each.run.id}" if step else "") if long else " ".join(step)


def for_instance(each: InstanceSummary, ledger: Path | str | None) -> list[str]:
    """The first of them for a piece of work, as a line to type."""
    step = first_step(Situation(each.run, each.open_failures))
    return [in_full(step, each.run, ledger)] if step else []


def first_step(now: Situation) -> Words | str:
    """The one thing to do next, where there is room for one only."""
    return next(iter(next_steps(now)), "")


def can_be_built(execution: JobExecution) -> bool:
    """Whether a run's job can be built again from a file."""
    origin = execution.origin
    return origin is not None and origin.path.endswith(".py") and not origin.is_script


def go_on(run: JobExecution) -> Words | str:
    """How to go on with a run; for one that was started from Python, the call."""
    if run.origin is not None and run.origin.is_script:
        return f"run the script again: {target_of(run.origin)}"
    if not can_be_built(run):
        return f"run it again from Python, with the same parameters: run({run.job})"
    return ("resume", str(run.id))


def begin_anew(run: JobExecution, *more: str, steps: Collection[str] | None = None) -> Words | str:
    """How to begin work again, as the next lap: from its start, or only these steps; with the yes that it may need."""
    yes = _adds_again(run, run.adding if steps is None else steps)
    if run.origin is not None and can_be_built(run):
        return (
            "run",
            target_of(run.origin),
            *option_texts(run.parameters),
            *more,
            "--again",
            *(["--yes"] if yes else []),
        )
    again = f"again=True{', yes=True' if yes else ''}"
    if run.origin is not None and run.origin.is_script:
        return f"run the script with resumable(…, {again}): {target_of(run.origin)}"
    return _in_python(f"run({run.job}, {again})")


def _adds_again(run: JobExecution, steps: Collection[str]) -> bool:
    """Whether any of these steps adds once more when it is run again; what is undone, or was never published, not."""
    gone = set(run.compensated if run.status is Status.COMPENSATED else ())
    if len(run.steps) == 1 and not run.status.complete:
        gone |= set(run.atomic)
    return any(step in steps and step not in gone for step in run.adding)


def from_step_command(run: JobExecution, steps: Sequence[str], ledger: Path | str | None) -> str:
    """How to run steps again, of which the others come after the first."""
    if not can_be_built(run):
        yes = ", yes=True" if _adds_again(run, steps) else ""
        return _in_python(f"run({run.job}, from_step={steps[0]!r}, again=True{yes})")
    return in_full(begin_anew(run, "--from", steps[0], steps=steps), run, ledger)


def in_full(step: Words | str, run: JobExecution, ledger: Path | str | None) -> str:
    """A line to type, with what one should know before it behind it, as a comment."""
    if isinstance(step, str):
        return step
    builds = step[0] in ("run", "resume", "replay", "rollback")
    twice = step[0] == "run" and "--yes" in step
    return command(*step, ledger=ledger) + _comment(run.secrets if builds else (), twice=twice)


def needed_secrets(names: Collection[str]) -> str:
    """What has to be given again, as a comment for a shell; nothing where nothing has."""
    return _comment(names, twice=False)


def _comment(secrets: Collection[str], *, twice: bool) -> str:
    needed = " ".join(f"BATCHWRIGHT_{name.upper()}" for name in secrets)
    told = [*([f"needs {needed}"] if needed else []), *(["what it added is added a second time"] if twice else [])]
    return f"  # {'; '.join(told)}" if told else ""


def _in_python(call: str) -> str:
    return f"from Python: {call}"


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
