"""What may be said of how long something may take.

The one rule: a time-out that could not be kept is refused when it is declared, with the mend.
"""

import math
from typing import Any

from batchwright.model.errors import DeclarationError
from batchwright.model.guarantee import Guarantee
from batchwright.model.processor import ProcessorKind


def check_seconds(what: str, seconds: Any) -> None:
    """Raise DeclarationError unless it is None or a number above 0."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and 0 < seconds < math.inf):
        raise DeclarationError(f"{what} must be a number of seconds above 0", f"got {seconds!r}")


def check_count(what: str, number: Any) -> None:
    """Raise DeclarationError unless it is a whole number of at least 1."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise DeclarationError(f"{what} must be at least 1", f"got {number!r}")


def check_timeouts(step: Any) -> None:
    """Raise DeclarationError for a step's time-outs that are none, or that nothing can end in time."""
    for name in ("timeout_seconds", "chunk_timeout_seconds", "item_timeout_seconds"):
        check_seconds(f"step '{step.name}': {name}", getattr(step, name))
    if step.item_timeout_seconds is not None and not getattr(step.runner, "apart", False):
        _require_async(step.name, step.processor_kind)
    if step.chunk_timeout_seconds is not None:
        calls = getattr(step.write, "logs_effects", False)
        none = Guarantee.AT_LEAST_ONCE
        _require_undoing(step.name, none if calls else getattr(step.write, "guarantee", none))


def _require_async(step: str, kind: ProcessorKind) -> None:
    if kind not in (ProcessorKind.ASYNC, ProcessorKind.ASYNC_GENERATOR):
        found = (
            "there is no process=" if kind is ProcessorKind.NONE else f"process is a {kind}: nothing can end its call"
        )
        raise DeclarationError(
            f"step '{step}': item_timeout_seconds needs an async function, or runner=Processes(…)",
            found,
            "write it with async def, or give the call inside it a time-out of its own",
        )


def _require_undoing(step: str, guarantee: Guarantee) -> None:
    if guarantee is Guarantee.AT_LEAST_ONCE:
        raise DeclarationError(
            f"step '{step}': chunk_timeout_seconds needs a writer that can undo a chunk",
            "write is a function: nothing can end its call, or take back what it did",
            "give the call inside it a time-out of its own",
        )
