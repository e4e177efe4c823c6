"""Files that appear whole or not at all: the sink that all writers of files, and of sets of files, share.

The one rule: outputs go to a stage beside the target, a checkpoint says how much of it counts, and at the end the stage
takes the target's place in one step. A checkpoint is made durable every `checkpoint_seconds`; what was written after
the last one is cut off and done again.

The state kept with a checkpoint is `{"phase", "form", "length", "tail", …}`: the phase is `writing`, `prepared` (with
the SHA-256 of the whole), `published` or, in a replay, `amended` (see `amended_files`); `tail` is the SHA-256 of the
last 4 KiB before `length`; the rest belongs to the encoder.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import (
    ADOPT,
    BEGIN_AGAIN,
    DamagedOutputError,
    DeclarationError,
    FencedError,
    GroundChangedError,
    ItemsFailed,
    NotReplayableError,
    WriteError,
)
from batchwright.model.failure import Failure
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.model.publication import Publication
from batchwright.ports import Scope, Sink, Writer
from batchwright.writers.amended_files import AMENDED, AmendingSink, end_amending
from batchwright.writers.encoders import Encoder
from batchwright.writers.stages import TAIL_BYTES, Stage, digest, refuse_target

Out_contra = TypeVar("Out_contra", contravariant=True)

WRITING, PREPARED, RENAMED, PUBLISHED = "writing", "prepared", "renamed", "published"


@dataclass(frozen=True)
class StagedFile(Generic[Out_contra]):
    """A file as the target of a step. `word` begins its address; `encoder` makes what turns outputs into bytes."""

    path: str
    word: str
    encoder: Callable[[], Encoder[Out_contra]]
    guarantee: Guarantee = field(default=Guarantee.EXACTLY_ONCE, init=False)

    @property
    def replaces_target(self) -> str:
        """The file that is replaced in the end, behind all links: no two steps of a job may replace one."""
        return os.path.realpath(self.path)

    @property
    def address(self) -> str:
        """What the file holds, and its absolute path."""
        return f"{self.word}:{os.path.abspath(self.path)}"  # noqa: PTH100 - without following links

    def check(self) -> None:
        """Raise TargetError if the path cannot become a file. Writes nothing."""
        refuse_target(self.path)

    def open(self, scope: Scope) -> Sink[Out_contra]:
        """A sink that writes to a stage beside the path."""
        return StagedSink(scope, self.encoder(), Stage(Path(self.path), scope.key))

    def publishing(self, publication: Publication) -> Writer[Out_contra]:
        """The same writer: a file appears whole or not at all anyway."""
        if publication.one_transaction or publication.publish_if is not None:
            word = "atomic='transaction'" if publication.one_transaction else "publish_if"
            raise DeclarationError(
                f"step '{publication.step}': {word} is for tables", f"{self.address} is a file", "write atomic=True"
            )
        return self


class StagedSink(Generic[Out_contra]):
    """Exactly once, byte for byte. Everything before the last durable checkpoint survives a crash of the machine.

    After an error of the disk it refuses all further work. Not thread-safe.
    """

    _stored: Checkpoint | None
    _volatile: Checkpoint | None
    _failures: list[Failure]
    _seen: set[bytes]
    _written: Sequence[bytes]
    _prepared: Mapping[str, Any]
    _begun: bool
    _broken: bool
    _phase: str
    _length: int
    _tail: bytes
    _durable_at: float

    def __init__(self, scope: Scope, encoder: Encoder[Out_contra], stage: Stage) -> None:
        """Create and open nothing yet."""
        self._path = stage.named
        self._scope = scope
        self._encoder = encoder
        self._stage = stage
        self._begin_anew()

    @property
    def amendable(self) -> bool:
        """Whether outputs may be added once it is published."""
        return self._stage.amends

    def recall(self) -> Checkpoint | None:
        """The last durable checkpoint, after cutting off what was written past it.

        Raises AlreadyRunningError if another process writes this step's output, DamagedOutputError if the stage is not
        as it was left, GroundChangedError if a published file is not.
        """
        self._begin_anew()
        staged = self._stage.open(create=False)
        self._stored = self._scope.store.load_checkpoint(self._scope.key)
        if self._stored is None:
            if staged:
                self._stage.truncate(0)
        elif self._stored.finished:
            if self._stored.state["phase"] == AMENDED:
                self._stored = end_amending(self._stage, self._scope, self._stored)
            self._accept_published(self._stored.state)
        else:
            self._go_on(self._stored, staged=staged)
        return self._stored

    def look(self) -> Checkpoint | None:
        """What `recall` would give, or the error that it would raise, with nothing locked, cut off or cleaned up."""
        stored = self._scope.store.load_checkpoint(self._scope.key)
        if stored is None or stored.state["phase"] == AMENDED:
            return stored
        if stored.finished:
            self._require_published(stored.state)
        else:
            self._require_form(stored.state)
            with self._stage.looking():
                wrong = self._stage.changed(stored.state)
            if wrong and not (stored.state["phase"] == PREPARED and self._stage.target_holds(stored.state)):
                raise self._not_as_left(wrong)
        return stored

    def write(self, outputs: Sequence[Out_contra]) -> None:
        """Encode outputs into memory. Raises ItemsFailed for those that cannot be; all others are kept."""
        self._begin()
        errors = self._encoder.add(outputs)
        if errors:
            raise ItemsFailed(errors)

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Append the chunk; make all commits durable if `checkpoint_seconds` have passed since that was done last."""
        self._begin()
        try:
            data = self._encoder.take()
            if data:
                self._append(data if self._length else self._encoder.head() + data)
            self._failures.extend(failures)
            self._seen.update(self._written)
            self._written = ()
            self._volatile = checkpoint
            if self._scope.clock.monotonic() - self._durable_at >= self._scope.checkpoint_seconds:
                self.flush()
        except BaseException:
            # The caller takes this chunk for not committed: nothing of it may become durable any more.
            self._broken = True
            raise

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are stored, or wait for the next durable checkpoint."""
        waiting = self._seen.intersection(digests)
        return waiting | self._scope.known([digest for digest in digests if digest not in waiting])

    def remember(self, digests: Sequence[bytes]) -> None:
        """Keep keys for the next commit; they become durable together with it."""
        self._written = digests

    def rollback(self) -> None:
        """Forget the outputs since the last commit."""
        self._encoder.drop()
        self._written = ()

    def flush(self) -> None:
        """Make all commits so far durable."""
        if self._volatile is not None and not self._broken:
            self._stage.sync()
            reach("K14")
            self._save(self._volatile, self._state())

    def finish(self, checkpoint: Checkpoint) -> None:
        """Publish: prepared (size and SHA-256 are stored), renamed over the target, published. Goes on where it was."""
        if self._phase == WRITING:
            self._prepare(checkpoint)
        if self._phase == PREPARED:
            self._stage.replace_target()
            self._phase = RENAMED
            reach("K15")
        if self._phase == RENAMED:
            self._mark_published(checkpoint)

    def discard(self) -> str:
        """Remove the stage; what it was. Raises AlreadyRunningError if another process still writes to it."""
        self.rollback()
        self._broken = True
        if not self._stage.open(create=False):
            return ""
        self._stage.remove()
        return f"stage {self._stage.path}"

    def failures(self) -> Iterator[Failure]:
        """Every failure stored, then those that wait for the next durable checkpoint."""
        waiting = {failure.ordinal: failure for failure in self._failures}
        for failure in self._scope.store.load_failures(self._scope.key):
            waiting.pop(failure.ordinal, None)
            yield failure
        yield from waiting.values()

    def amend(self, published: Checkpoint | None) -> AmendingSink:
        """What adds the outputs of a replay at the end of the published file.

        Raises NotReplayableError before it is published, and for a set of files.
        """
        if not self.amendable:
            raise NotReplayableError(
                f"{self._path} is a set of files, which is published as a whole",
                "outputs that come later would be published alone",
                BEGIN_AGAIN,
            )
        if published is None or not published.finished:
            raise NotReplayableError(
                f"{self._path} is not complete yet", "its step has not been run to its end", "run the job first"
            )
        return AmendingSink(self._path, self._scope, self._encoder, published)

    def classify(self, error: BaseException) -> Fault:
        """Text that the encoding cannot express is refused; everything else stops the step."""
        return Fault.REFUSED if isinstance(error, UnicodeError) else Fault.FATAL

    def close(self) -> None:
        """Make what is committed durable, undo what is not, let go of the stage."""
        self.rollback()
        if self._phase == WRITING and not self._broken and not self._stage.poisoned:
            # Whatever fails here loses nothing: what is not durable is done again by the next run.
            with contextlib.suppress(Exception):
                self.flush()
        self._begun = False
        self._stage.close()

    def _begin_anew(self) -> None:
        self._stored = None
        self._volatile = None
        self._failures = []
        self._seen = set()
        self._written = ()
        self._prepared = {}
        self._begun = False
        self._broken = False
        self._phase = WRITING
        self._length = 0
        self._tail = b""
        self._durable_at = self._scope.clock.monotonic()
        self._encoder.drop()
        self._encoder.restore({})

    def _accept_published(self, state: Mapping[str, Any]) -> None:
        self._stage.clear()
        self._phase = PUBLISHED
        self._require_published(state)

    def _require_published(self, state: Mapping[str, Any]) -> None:
        if not self._scope.adopt and (changed := self._stage.target_changed(state)):
            raise GroundChangedError(
                f"{self._path} was complete and is no longer as this step left it",
                changed,
                f"put it back, {ADOPT}, or {BEGIN_AGAIN}",
            )

    def _require_form(self, state: Mapping[str, Any]) -> None:
        if state["form"] != self._encoder.form:
            raise GroundChangedError(
                f"{self._path} was begun in another form",
                f"it was {state['form']} and is now {self._encoder.form}",
                f"declare it as before, or {BEGIN_AGAIN}",
            )

    def _not_as_left(self, wrong: str) -> DamagedOutputError:
        return DamagedOutputError(
            f"{self._path} cannot be gone on with: what was written of it is not as it was left",
            wrong,
            f"restore that file, or {BEGIN_AGAIN}",
        )

    def _go_on(self, checkpoint: Checkpoint, *, staged: bool) -> None:
        state = checkpoint.state
        self._require_form(state)
        wrong = self._stage.changed(state)
        if wrong and state["phase"] == PREPARED and self._stage.target_holds(state):
            self._prepared, self._phase = state, RENAMED
            self._mark_published(checkpoint)
            return
        if wrong:
            raise self._not_as_left(wrong)
        if staged:
            self._stage.truncate(state["length"])
            self._tail = self._stage.tail(state["length"])
        self._length = state["length"]
        self._encoder.restore(state)

    def _begin(self) -> None:
        self._stage.refuse_if_poisoned()
        if self._broken:
            raise WriteError(f"{self._path} takes no more outputs", "an earlier chunk failed", "run it again")
        if self._phase != WRITING:
            raise WriteError(f"{self._path} takes no more outputs", f"it is {self._phase}", "begin anew with --again")
        if self._begun:
            return
        self._stage.check_target()
        # Asked before, so that a loser leaves no stage behind, and after, because only now do we hold the lock.
        self._refuse_if_moved()
        self._stage.open(create=True)
        self._refuse_if_moved()
        self._stage.truncate(self._length)
        self._begun = True

    def _refuse_if_moved(self) -> None:
        if self._scope.store.load_checkpoint(self._scope.key) != self._stored:
            raise FencedError(
                f"another process has written {self._path} since this one looked",
                f"the checkpoint of step '{self._scope.key.step}' has moved",
                "run the job again",
            )

    def _append(self, data: bytes) -> None:
        self._stage.append(data, self._length)
        self._length += len(data)
        self._tail = (self._tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    def _state(self) -> dict[str, Any]:
        return {
            **self._encoder.state(),
            "phase": WRITING,
            "form": self._encoder.form,
            "length": self._length,
            "tail": digest(self._tail),
        }

    def _save(self, checkpoint: Checkpoint, state: Mapping[str, Any], *, finished: bool = False) -> None:
        checkpoint = replace(checkpoint, state=state, finished=finished)
        self._scope.save(checkpoint, tuple(self._failures), tuple(self._seen))
        self._stored, self._volatile = checkpoint, None
        self._failures.clear()
        self._seen.clear()
        self._durable_at = self._scope.clock.monotonic()

    def _prepare(self, checkpoint: Checkpoint) -> None:
        self.rollback()
        self._begin()
        if not self._length:
            self._append(self._encoder.head())
        if self._stage.size() != self._length:
            raise DamagedOutputError(
                f"{self._path} is not published: somebody else has written to it",
                f"{self._stage.path} holds {self._stage.size():,} bytes instead of {self._length:,}",
                "run the job again: it goes on from its last checkpoint",
            )
        self._prepared = {**self._state(), "phase": PREPARED, "sha256": self._stage.prepare()}
        reach("K14")
        self._save(checkpoint, self._prepared)
        self._phase = PREPARED

    def _mark_published(self, checkpoint: Checkpoint) -> None:
        self._stage.sync_target()
        reach("K16")
        self._save(checkpoint, {**self._prepared, "phase": PUBLISHED}, finished=True)
        self._phase = PUBLISHED
        self._stage.clear()
