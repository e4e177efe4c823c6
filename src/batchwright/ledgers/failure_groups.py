"""Failures grouped by cause, for people: one line for a thousand failures that differ only in a number or a name.

The one rule: memory is bounded, however many failures there are and however much their messages differ.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from batchwright.model.block import Place
from batchwright.model.cause import general_message
from batchwright.model.execution import FailureGroup
from batchwright.model.failure import Failure, FailureState

MAX_GROUPS = 1_000
"""From here on, messages not seen before are counted together, by step, phase and error type."""

OTHER_MESSAGES = "(other messages)"


class Cause(NamedTuple):
    """What grouping needs to know of a failure; its payload stays where it is."""

    step: str
    phase: str
    error_type: str
    error: str
    state: FailureState
    place: Place


def cause_of(failure: Failure) -> Cause:
    """What grouping needs of a failure."""
    return Cause(
        failure.step,
        failure.phase,
        failure.error_type,
        failure.error,
        failure.state,
        failure.place,
    )


@dataclass(slots=True)
class _Tally:
    first_place: str
    example: str
    count: int = 0
    open: int = 0
    ignored: int = 0


def group_failures(causes: Iterable[Cause]) -> list[FailureGroup]:
    """Groups with their counts, most frequent first; in the order of the failures where counts are equal."""
    tallies: dict[tuple[str, str, str, str], _Tally] = {}
    for cause in causes:
        key = (cause.step, cause.phase, cause.error_type, general_message(cause.error))
        if key not in tallies and len(tallies) >= MAX_GROUPS:
            key = (*key[:3], OTHER_MESSAGES)
        tally = tallies.get(key)
        if tally is None:
            tally = tallies[key] = _Tally(str(cause.place), cause.error)
        tally.count += 1
        tally.open += cause.state is FailureState.OPEN
        tally.ignored += cause.state is FailureState.IGNORED
    groups = [
        FailureGroup(
            *key,
            count=tally.count,
            open=tally.open,
            first_place=tally.first_place,
            example=tally.example,
            ignored=tally.ignored,
        )
        for key, tally in tallies.items()
    ]
    return sorted(groups, key=lambda group: -group.count)
