"""Work that may be done elsewhere: a portion of a chunk, and what came of it. Plain records that can be pickled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchwright.model.failure import Phase


@dataclass(frozen=True, slots=True)
class SetAside:
    """Why a record does not go on."""

    error: BaseException
    phase: Phase
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of an item over which a worker died while it alone was in work.

    So many deaths were `attempts` of it; 0: it is suspected only. `code` is how the last one ended, as exit codes and
    negative signals go; None: it was ended past the item's time. `digest` tells one item from another.
    """

    attempts: int
    code: int | None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """Items to be processed by one worker. `number` is theirs alone while the step runs.

    `ordinals` are their places in the step's input; `deaths` says, by index, of which items workers have died before.
    """

    number: int
    items: Sequence[Any]
    ordinals: Sequence[int] = ()
    deaths: Mapping[int, Death] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of one item: a result, or the last error; and how many attempts were made in all."""

    result: Any
    error: BaseException | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a piece of work: a result for each item that did not fail, in order, and why the others did.

    It may end before the items do: behind `done` of them, because a stop was requested, or because the next one's error
    ends the step (`ended_by`). `broken` is an error of the whole, which ends the step at once.
    """

    number: int
    results: Sequence[Any] = ()
    failed: Mapping[int, SetAside] = field(default_factory=dict)
    retried: int = 0
    ended_by: BaseException | None = None
    broken: BaseException | None = None
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """How many of the items have a result or a reason."""
        return len(self.results) + len(self.failed)
