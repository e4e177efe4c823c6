"""Every port of the engine, as a Protocol; but for `runners.py`. A one-method port takes a plain callable too.

The optional abilities of readers and writers are protocols of their own (`Checks`, `Measures`, `Explains`,
`Flushes`, `Settles`, `Interruptible`, `Publishes`, `Discards`, and those of `abilities`): an adapter that lacks one
is complete without it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar, runtime_checkable

from batchwright.model.block import Block, Place, Position
from batchwright.model.checkpoint import Checkpoint, InstanceKey, StepKey
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.events import Event
from batchwright.model.execution import (
    JobExecution,
    RunRequest,
    StepExecution,
    StepOutcome,
)
from batchwright.model.failure import Failure, FailureState
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.model.publication import Publication
from batchwright.model.status import Status
from batchwright.ports.deaths import DeathLog
from batchwright.ports.effects import EffectLog
from batchwright.ports.histories import History as History

In_co = TypeVar("In_co", covariant=True)
Out_contra = TypeVar("Out_contra", contravariant=True)


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


@runtime_checkable
class Reader(Protocol[In_co]):
    """Gives blocks of items from a position on. Reading twice from one position gives the same items."""

    @property
    def address(self) -> str:
        """What is read, in words that stay equal from run to run: `csv:/data/in/sales.csv`. Holds no secret."""

    @property
    def seeks(self) -> bool:
        """Whether `read(after)` goes straight to `after.anchor`, instead of reading the input again from its start."""

    def read(self, after: Position | None) -> Iterator[Block[In_co]]:
        """Blocks from `after.anchor` on (None: from the start). The engine itself drops the first `after.offset`."""

    def place(self, position: Position) -> Place:
        """Where a person finds the item at this position. Asked only when something failed."""


@runtime_checkable
class Checks(Protocol):
    """An adapter that can say before the step starts that it cannot work."""

    def check(self) -> None:
        """Raise SourceError or TargetError. Writes nothing."""


@runtime_checkable
class Measures(Protocol):
    """A reader that knows how much of its input lies before a position."""

    def fraction(self, position: Position) -> float | None:
        """Between 0.0 and 1.0, or None where it cannot be told cheaply."""


class CheckpointStore(Protocol):
    """Keeps checkpoints, failures and seen keys for sinks whose target cannot; a ledger is one."""

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint stored under this key."""

    def save_checkpoint(
        self, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure], seen: SeenKeys | None = None
    ) -> None:
        """Store all in one durable transaction. Failures and keys are added, the checkpoint is replaced.

        Keys of a space that is over are deleted.
        """
        ...

    def known_keys(self, space: KeySpace, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are stored, by this lap or, across laps, by one that this step has finished."""

    def load_failures(self, key: StepKey) -> Iterator[Failure]:
        """Every failure stored under this key, by ordinal."""

    def settle_failures(
        self,
        key: StepKey,
        ordinals: Sequence[int],
        state: FailureState = FailureState.REPLAYED,
        note: str = "",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Move failures into a state, from the one that it is reached from; others keep theirs.

        A checkpoint is stored in the same durable transaction.
        """


def _always() -> None:
    """Nobody else can own it."""


def _nobody(_ordinal: int, _now: float) -> None:
    """Nobody looks on."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a sink is opened for: whose checkpoint it keeps, and where, if its target cannot keep it.

    With `claims`, `recall` makes this sink the only one that can commit: any other, of a run that lost its ownership
    and does not know yet, is fenced from then on. Without, a sink that only looks disturbs nobody. With `adopt`, a
    published file that was moved away or changed since counts as complete. `keys` says where those that the step has
    seen are kept, if it asks for that; `secrets` are texts that nothing stored may hold. `owned` raises FencedError
    once the work may be somebody else's: whoever asks between looking at a fence and raising it fences no successor.
    With `asks`, calls may have been made that the store does not know: where one can ask, each is asked for first.
    `called` may be told each ordinal that a slow writer is done with, and when, so that people see it move.
    """

    key: StepKey
    store: CheckpointStore
    clock: Clock
    checkpoint_seconds: float = 1.0
    claims: bool = False
    adopt: bool = False
    secrets: Sequence[str] = ()
    keys: KeySpace | None = None
    owned: Callable[[], object] = _always
    asks: bool = False
    called: Callable[[int, float], object] = _nobody

    def save(self, checkpoint: Checkpoint, failures: Sequence[Failure], digests: Sequence[bytes] = ()) -> None:
        """Store all in the store, in one durable transaction."""
        seen = () if self.keys is None else (SeenKeys(self.keys, digests),)
        self.store.save_checkpoint(self.key, checkpoint, failures, *seen)

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys the store knows."""
        return set() if self.keys is None else self.store.known_keys(self.keys, digests)


class Sink(Protocol[Out_contra]):
    """An open target. Creates nothing before the first `write`, `commit` or `finish`.

    The life of a chunk: `write` (once or more), then `commit` or `rollback`. `commit` makes outputs, checkpoint and
    failures durable together, or returns having kept all three for a later commit that does (staged files).
    """

    def recall(self) -> Checkpoint | None:
        """The checkpoint that this target vouches for, after putting the target back to it. None: nothing is there.

        Raises DamagedOutputError if the target cannot be put back to it.
        """

    def write(self, outputs: Sequence[Out_contra]) -> None:
        """Write outputs, not yet for good.

        Raises ItemsFailed if some are refused and all others are written; any other error means that the chunk has to
        be rolled back, and `classify` says what comes next.
        """

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Make the chunk durable together with its checkpoint and failures. Empty chunks are committed too."""

    def rollback(self) -> None:
        """Undo everything written since the last commit, if anything can be undone. Never raises."""

    def finish(self, checkpoint: Checkpoint) -> None:
        """Publish, and set the finished mark. May be called again after a crash in between."""

    def failures(self) -> Iterator[Failure]:
        """Every failure kept with the checkpoint, by ordinal."""

    def classify(self, error: BaseException) -> Fault:
        """What an error from `write`, `commit` or `finish` means."""

    def close(self) -> None:
        """Release everything. An uncommitted chunk is undone. Never raises."""


@runtime_checkable
class Explains(Protocol):
    """A sink that can say what a driver's error means, in our words."""

    def explain(self, error: BaseException) -> BaseException:
        """What is wrong; what was found; what to do. An error that needs no explanation is returned as it is."""


@runtime_checkable
class Flushes(Protocol):
    """A sink whose commits become durable later than they are made."""

    def flush(self) -> None:
        """Make every commit so far durable: the step is about to end before its input does."""


@runtime_checkable
class Replays(Protocol):
    """A sink that takes the items of a replay. What it does with them is settled chunk by chunk, or at `finish`."""

    def settle(self, ordinals: Sequence[int], state: FailureState = FailureState.REPLAYED, note: str = "") -> None:
        """Commit what was written together with moving the failures at these ordinals into this state."""


@runtime_checkable
class Amends(Protocol):
    """A sink of a target that was published as a whole, and can be published anew with more at its end."""

    def amend(self, published: Checkpoint | None) -> Any:
        """A sink that `Replays`, and has a `publish()`. `published` is what `recall` gave.

        Raises NotReplayableError if it is not published yet.
        """


@runtime_checkable
class Settles(Replays, Protocol):
    """A sink of a transactional target, which keeps checkpoint and failures beside the data for any ledger to find."""

    def last_lap(self) -> int:
        """The highest lap of this step that the target has a checkpoint of, by whatever ledger; 0 if none."""


@runtime_checkable
class Interruptible(Protocol):
    """A sink, a ledger, or what a reader's `read` returns, if another thread can end what it waits for."""

    def interrupt(self, *, now: bool) -> None:
        """End what would delay a stop; whoever waited gets the driver's error. Never raises, and may come too late.

        A reader ends its statement. A sink ends its wait for a lock and, only with `now`, a statement that writes.
        A ledger, whose statements are short, ends its waits with `now`. None of them waits for locks after that.
        """


@runtime_checkable
class Writer(Protocol[Out_contra]):
    """Makes chunks durable."""

    @property
    def guarantee(self) -> Guarantee:
        """How often the outputs of a chunk take effect, whatever crashes in between."""

    @property
    def address(self) -> str:
        """What is written to, in words that stay equal from run to run. Holds no secret."""

    def open(self, scope: Scope) -> Sink[Out_contra]:
        """A sink for one step's outputs."""


@runtime_checkable
class Publishes(Protocol[Out_contra]):
    """A writer that can make the outputs of a whole step visible at once, or not at all."""

    def publishing(self, publication: Publication) -> Writer[Out_contra]:
        """The writer that does, at the same address. Raises DeclarationError, with the mend, for what it cannot do.

        Until its sink's `finish` is durable nobody sees an output; from then on everybody sees all of them. Asked when
        a step is built, and again when it is bound.
        """
        ...


@runtime_checkable
class Discards(Protocol):
    """A sink that may leave something behind in its target when its step is never finished."""

    def discard(self) -> str:
        """Remove what this step has staged in this lap and not published; what that was, for people, or nothing.

        Whoever is still working on it commits nothing any more.
        """


class Ownership(Protocol):
    """The right to work on an instance, as long as it lasts."""

    def check(self) -> None:
        """Raise FencedError once the right may have gone to somebody else. Asked before each chunk; must be cheap."""


class Ledger(CheckpointStore, EffectLog, DeathLog, Protocol):
    """The engine's side of the durable record. All methods are for one thread."""

    @property
    def address(self) -> str:
        """Where it is kept, for people."""

    @property
    def durable(self) -> bool:
        """Whether it outlives the process."""

    def own(self, key: InstanceKey) -> AbstractContextManager[Ownership]:
        """Own this instance while the context lasts. Raises AlreadyRunningError."""

    def last_run(self, key: InstanceKey) -> JobExecution | None:
        """The newest execution of kind `run` of this instance."""

    def begin_run(self, request: RunRequest) -> JobExecution:
        """Record a new execution, STARTING, in the last lap or, with `next_lap`, in the next one.

        Only for the owner. Executions of the instance that are still live are closed as FAILED: their owner is gone.
        """

    def close_lost(self, key: InstanceKey) -> None:
        """Close executions of the instance, with their steps, that are still live: their owner is gone.

        Only for the owner. Raises LedgerError for anybody else.
        """

    def move_run(self, run: int, status: Status, error: str = "") -> None:
        """Change an execution's status, as `TRANSITIONS` allows, by compare-and-set."""

    def request_stop(self, run: int, who: str) -> bool:
        """Note on a live execution, whoever owns it, that `who` wants it to stop; the first request stays.

        The one thing that others may write on a live execution. False if it is not live.
        """

    def begin_step(self, run: int, key: StepKey, source: str, target: str, guarantee: str) -> StepExecution:
        """Record a new execution of a step, RUNNING, of its run's kind."""

    def note_progress(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Copy counts and failures of a running step; called about once a second. Adding a failure twice is harmless.

        A failure that is already known keeps its state.
        """

    def end_step(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Close an execution of a step, with the last failures not yet copied.

        Unless it is STOPPED, deaths noted of the step are forgotten: it is done, or a person looks at it first.
        """

    def note_lost(self, step_execution: int, outcome: StepOutcome, failures: Sequence[Failure]) -> None:
        """Complete an execution that `close_lost` has closed with what its target holds; its status stays.

        Only for the owner of its instance. Raises LedgerError for anybody else, and for any other execution.
        """

    def last_step(self, key: StepKey) -> StepExecution | None:
        """The newest execution of this step in this lap, of kind `run`."""

    def void_failures(self, key: StepKey, from_ordinal: int) -> None:
        """Forget failures at or past this ordinal: their items are to be read again."""

    def close(self) -> None:
        """Release everything."""


Observer = Callable[[Event], None]
"""Receives events. Called on a thread of its own, outside transactions; an error in it never harms the run."""

Source = Reader[In_co] | Iterable[In_co] | Callable[[], Iterable[In_co]]
"""What a step reads: a reader, a collection, or a function that returns a fresh iterator each time."""

Target = Writer[Out_contra] | Callable[[Sequence[Out_contra]], object]
"""What a step writes to: a writer, or a function that takes a chunk of outputs."""
