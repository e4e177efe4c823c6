"""Say what a run would do, without beginning it: go on, begin, do nothing, or be refused, and why.

The one rule: the questions and the words are those of a run. Who asks hands over a ledger that nobody else sees.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from batchwright.engine.check_start import check_ground
from batchwright.engine.plan_run import look_back, plan_run
from batchwright.engine.set_up_run import RunOptions, Surroundings
from batchwright.job import Job
from batchwright.model.errors import ConfigurationError, StopRequestedError
from batchwright.step import BoundStep


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a run would make of what earlier ones left.

    `begins` says that it would begin a lap, `complete` that there is nothing to do, `refused` why it would not start.
    `unasked` says that a target that has to be asked first could not be.
    """

    begins: bool = False
    complete: bool = False
    unasked: bool = False
    refused: str = ""
    exit_code: int = 0
    warnings: tuple[str, ...] = ()


def foresee_run(job: Job, bound: Mapping[str, BoundStep], options: RunOptions, around: Surroundings) -> Foreseen:
    """Ask what a run asks before it begins. `around` has a stop that is requested already: nothing is waited for."""
    try:
        with around.ledger.own(job.key) as ownership:
            standing = look_back(job, bound, options, around, ownership)
            complete = standing.lap.complete and standing.context is not None and check_ground(bound, standing.context)
            if not complete:
                plan_run(job, bound, options, standing)
    except StopRequestedError:
        return Foreseen(unasked=True)
    except ConfigurationError as refused:
        return Foreseen(refused=str(refused), exit_code=refused.exit_code)
    lap = standing.lap
    return Foreseen(lap.begins and not lap.unknown, complete, warnings=standing.warnings)
