"""Decide what a run will do before anything of it is recorded: in which lap, from where on, and whether it may at all.

The one rule: nothing is written here, neither in targets nor in the ledger. So whoever only wants to know, a dry run,
asks the same questions, and gets the same refusals with the same choices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from batchwright.engine.check_calls import forgotten_mark, require_remembered
from batchwright.engine.check_replay import describe_abilities
from batchwright.engine.check_start import check_first_steps, check_ground, require_confirmation
from batchwright.engine.choose_lap import Lap, Surveyed, choose_lap
from batchwright.engine.describe_job import describe_job, differences, other_version
from batchwright.engine.run_step import RunContext
from batchwright.engine.set_up_run import RunOptions, Surroundings, context_of
from batchwright.engine.stop import pause
from batchwright.engine.take_over import steps_to_keep
from batchwright.job import Job, ordered_steps
from batchwright.model.errors import ACCEPT_INPUT, ADOPT, BEGIN_AGAIN, GroundChangedError
from batchwright.model.execution import ASKS, JobExecution, RunRequest
from batchwright.model.status import Status
from batchwright.ports import Ownership
from batchwright.ports.call_marks import CallMark
from batchwright.step import BoundStep


@dataclass(frozen=True, slots=True)
class Standing:
    """How work stands when it is run: its last run with the context of that, and the lap to work in.

    `unseen` is the context of a lap that others know and the ledger does not, `mark` what says that it called outside.
    """

    last: JobExecution | None
    lap: Lap
    context: RunContext | None
    unseen: RunContext | None
    mark: CallMark | None
    definition: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def leaves_lap(self) -> bool:
        """Whether a lap that is not complete is left behind for good."""
        return self.last is not None and self.lap.begins and not self.last.status.complete


def look_back(
    job: Job, bound: Mapping[str, BoundStep], options: RunOptions, around: Surroundings, ownership: Ownership
) -> Standing:
    """How the work stands. Raises AbandonedError, RolledBackError, GroundChangedError: what `choose_lap` refuses, and
    another declaration than that of the lap.
    """  # noqa: D205 - one sentence
    ledger = around.ledger
    last = ledger.last_run(job.key)
    mark = forgotten_mark(job, last, ledger)
    surveyed = Surveyed(bound, job.key, ledger, around.clock, partial(pause, around.clock, around.stop), mark)
    lap = choose_lap(job, last, surveyed, options.choices, again=options.again)
    definition = describe_job(job, bound) | describe_abilities(job, bound, ledger, around.clock)
    warnings = () if last is None or lap.begins else _same_definition(job, last, definition, options)
    context = None if last is None else context_of(job, last, options, around, ownership)
    unseen = None
    if lap.unknown or lap.behind:
        # Nothing is recorded of it: this stands for the run that the ledger does not know.
        nobody = JobExecution(0, job.key, lap.behind or lap.number, Status.STARTING, around.clock.now())
        unseen = context_of(job, nobody, options, around, ownership)
    if not lap.begins and last is not None and last.definition.get(ASKS):
        definition |= {ASKS: True}
    return Standing(last, lap, context, unseen, mark, definition, warnings)


def plan_run(job: Job, bound: Mapping[str, BoundStep], options: RunOptions, standing: Standing) -> RunRequest:
    """The run to begin. Raises what stands in its way: GroundChangedError, ConfirmationError, NotResumableError, and
    SourceError or TargetError.
    """  # noqa: D205 - one sentence
    last, lap, context = standing.last, standing.lap, standing.context
    kept = steps_to_keep(job, bound, options.from_step, context)
    rerun = {name: step for name, step in bound.items() if name not in kept}
    if options.again and not options.confirmed:
        for seen in filter(None, (context, standing.unseen)):
            require_confirmation(rerun, seen, unseen=seen is standing.unseen)
    definition = dict(standing.definition)
    doubted = standing.unseen or (context if standing.mark else None)
    if doubted is not None:
        if options.again or not options.adopt:
            confirmed = options.confirmed if options.again else None
            require_remembered(job, rerun, doubted, standing.mark, confirmed=confirmed)
        definition |= {} if options.again else {ASKS: True}
    if context is not None and not lap.begins:
        check_ground(rerun, context)
    elif standing.unseen is not None and lap.unknown:
        check_ground(rerun, standing.unseen, unseen=True)
    if not lap.unknown:
        check_first_steps(job, rerun, None if lap.begins else context)
    if last is not None and not lap.begins:
        kept = dict(last.kept)
    steps = tuple(step.name for step in ordered_steps(job))
    request = RunRequest(job.key, job.parameters, steps, job.origin, next_lap=lap.begins, at_least_lap=lap.number)
    return replace(request, definition=definition, kept=kept)


def _same_definition(job: Job, last: JobExecution, now: Mapping[str, Any], options: RunOptions) -> tuple[str, ...]:
    """Warnings of what differs from the declaration that the lap was begun with.

    Raises GroundChangedError for what makes other work of it: where the lap is complete, that is other steps only.
    """
    found = differences(last.definition, now)
    if not last.status.complete:
        found.extend(other_version(last.definition, now))
    given = {ADOPT: options.adopt, ACCEPT_INPUT: options.accept_input}
    refused = [
        difference
        for difference in found
        if difference.way and not given[difference.way] and (difference.steps or not last.status.complete)
    ]
    if refused:
        ways = ", ".join(dict.fromkeys(difference.way for difference in refused))
        raise GroundChangedError(
            f"job '{job.name}' is declared otherwise than when run {last.id} {_how(last)} it",
            "; ".join(difference.text for difference in refused),
            f"change it back, {ways}, or {BEGIN_AGAIN}",
        )
    return tuple(difference.text for difference in found)


def _how(last: JobExecution) -> str:
    return "completed" if last.status.complete else "began"
