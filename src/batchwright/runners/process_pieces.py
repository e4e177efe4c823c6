"""Work in pieces: what a worker process did not survive is divided until the item is found that it died of.

The one rule: a piece is divided, or its only item is judged; its neighbours are processed once more and come out once.

An item is judged when a worker died while it alone was in work, and had died over it before: among others, or alone.
So a process that something else killed, such as a system short of memory, costs no innocent item its place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from batchwright.model.failure import Phase
from batchwright.model.work import Outcome, SetAside, Work
from batchwright.ports.runners import Task

PARTS = 16
"""Into how many a piece is divided: one of n items costs at most log16(n) + 2 workers, and few messages."""


@dataclass(eq=False, slots=True)
class Piece:
    """Items of a work from `first` on. `suspected` says that a worker has died over it before."""

    number: int
    whole: "Whole"
    first: int
    items: Sequence[Any]
    suspected: bool = False
    attempts: int = 0
    not_before: float = 0.0
    outcome: Outcome | None = None


@dataclass(eq=False, slots=True)
class Whole:
    """A piece of work as it was given, and the pieces it is in, in order."""

    work: Work
    pieces: list[Piece] = field(default_factory=list)

    def divide(self, piece: Piece, numbers: Sequence[int]) -> list[Piece]:
        """Put as many pieces in the place of one as there are numbers."""
        size = -(-len(piece.items) // len(numbers))
        parts = [
            Piece(number, self, piece.first + at, piece.items[at : at + size], suspected=True)
            for number, at in zip(numbers, range(0, len(piece.items), size), strict=False)
        ]
        place = self.pieces.index(piece)
        self.pieces[place : place + 1] = parts
        return parts

    def outcome(self) -> Outcome | None:
        """What came of all of it, once it is known; of the part before what ended it, if that is so."""
        results: list[Any] = []
        failed: dict[int, SetAside] = {}
        retried, seconds, read = 0, 0.0, 0
        for piece in self.pieces:
            done = piece.outcome
            if done is None:
                return None
            if done.broken is not None:
                return replace(done, number=self.work.number)
            if len(self.pieces) == 1:
                return replace(done, number=self.work.number)
            results += done.results
            failed.update({piece.first + index: why for index, why in done.failed.items()})
            retried, seconds, read = retried + done.retried, seconds + done.seconds * done.done, read + done.done
            if done.done < len(piece.items):
                return Outcome(self.work.number, results, failed, retried, done.ended_by, None, seconds / max(1, read))
        return Outcome(self.work.number, results, failed, retried, seconds=seconds / max(1, read))


def begin(whole: Whole, numbers: Iterator[int]) -> list[Piece]:
    """The pieces that a work begins with: one, unless workers have died of its items before; those are alone."""
    work, pieces, start = whole.work, list[Piece](), 0
    for index in sorted(work.deaths):
        if index > start:
            pieces.append(Piece(next(numbers), whole, start, work.items[start:index]))
        alone = Piece(next(numbers), whole, index, work.items[index : index + 1], suspected=True)
        alone.attempts = work.deaths[index].attempts
        pieces.append(alone)
        start = index + 1
    if start < len(work.items) or not pieces:
        pieces.append(Piece(next(numbers), whole, start, work.items[start:]))
    return pieces


def parts_of(piece: Piece) -> int:
    """Into how many pieces it is divided."""
    return min(PARTS, len(piece.items))


def judged(piece: Piece, error: BaseException, task: Task) -> Outcome:
    """What comes of a piece whose only item has failed for good."""
    retried = max(0, piece.attempts - 1)
    if task.skips(error):
        why = SetAside(error, Phase.PROCESS, max(1, piece.attempts))
        return Outcome(piece.number, (), {0: why}, retried)
    return Outcome(piece.number, ended_by=error, retried=retried)


def after_deaths(piece: Piece, outcome: Outcome) -> Outcome:
    """An outcome that came after workers had died of the item: those were attempts too."""
    if not piece.attempts:
        return outcome
    failed = {index: replace(why, attempts=why.attempts + piece.attempts) for index, why in outcome.failed.items()}
    return replace(outcome, failed=failed, retried=outcome.retried + piece.attempts)
