"""Call a processor for those items of a chunk whose key was not seen before.

The states of a key, and what holds in each when the process dies:
  unseen     no committed chunk had a good item with it: the next item with it passes
  owned      an item of the chunk in work has passed with it; later ones in the chunk wait, and are filtered if it is
             written: nothing is stored, all of it is done again
  seen       it was committed, in one transaction with its item's outputs and the checkpoint: items with it are filtered
A key whose owner fails, while processed or while written, is unseen again, and the first that waits takes its place.

The one rule: the database is asked once for all keys of a chunk; for an item nothing is done but to make its key.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from batchwright.abilities import Remembers
from batchwright.engine.call_processor import Processor, processor_for
from batchwright.engine.read_chunks import Chunk
from batchwright.engine.recall_checkpoint import ask_for
from batchwright.model.checkpoint import StepKey
from batchwright.model.distinct import Distinct, KeySpace, key_digest
from batchwright.model.drop import DROP
from batchwright.model.errors import DeclarationError
from batchwright.ports import Scope, Sink
from batchwright.step import Step

if TYPE_CHECKING:
    from batchwright.engine.commit_chunk import OpenTarget

Keyed = tuple[int, Any, Any]
"""An item with its ordinal and the digest of its key, or the error that says why it has none."""


@dataclass(frozen=True, slots=True)
class ChunkKeys:
    """The keys of a chunk: which of them are seen, which item owns which other (by ordinal), and which items wait.

    `owners` and `waiting` are filled while the chunk is processed; after that, nothing in here is changed.
    """

    items: Sequence[Keyed]
    seen: AbstractSet[bytes]
    memory: Remembers
    pass_on: Callable[[Any], Any]
    owners: dict[bytes, int] = field(default_factory=dict)
    waiting: dict[int, Keyed] = field(default_factory=dict)

    def owned(self, start: int, stop: int) -> list[bytes]:
        """The keys with which items of this ordinal range have passed."""
        return [digest for digest, ordinal in self.owners.items() if start <= ordinal < stop]

    def orphans(self, start: int, stop: int) -> list[Keyed]:
        """The items of this ordinal range that wait for a key which nobody owns any more.

        An owner that stands before the range has been committed by now, or was refused: the target knows.
        """
        here = [(self.owners.get(keyed[1]), keyed) for n, keyed in self.waiting.items() if start <= n < stop]
        before: set[Any] = {keyed[1] for owner, keyed in here if owner is not None and owner < start}
        lost = before - self.memory.known(list(before)) if before else before
        return [keyed for owner, keyed in here if owner is None or keyed[1] in lost]

    def without(self, ordinals: Collection[int]) -> "ChunkKeys":
        """The same with the keys of these items owned by nobody."""
        kept = {digest: ordinal for digest, ordinal in self.owners.items() if ordinal not in ordinals}
        return replace(self, owners=kept)

    def given_to(self, owners: Mapping[bytes, int]) -> "ChunkKeys":
        """The same with these owners."""
        return replace(self, owners=dict(owners))


class Deduplicating:
    """A processor that answers for items whose key is seen or owned, and passes the others on."""

    def __init__(
        self,
        inner: Processor,
        declared: tuple[Callable[[Any], Any], bytes],
        memory: Remembers,
        look_up: Callable[[Sequence[bytes]], set[bytes]],
    ) -> None:
        """Know nothing yet. `declared` is how the key is made, and the salt of its digest."""
        self._inner = inner
        self._key_of, self._salt = declared
        self._memory = memory
        self._look_up = look_up
        self._keys = ChunkKeys((), frozenset(), memory, inner.one)
        self.many: bool = inner.many

    def keys_of(self, chunk: Chunk) -> ChunkKeys:
        """The keys of a chunk, looked up; its items are what `run` and `one` are given from now on."""
        ordinals = [chunk.start + index for index in chunk.good_indexes()]
        digests = _digests(chunk.items, self._key_of, self._salt)
        items = list(zip(ordinals, digests, chunk.items, strict=True))
        asked = {digest for digest in digests if isinstance(digest, bytes)}
        seen = self._look_up(list(asked)) if asked else frozenset[bytes]()
        self._keys = ChunkKeys(items, seen, self._memory, self._inner.one)
        return self._keys

    def run(self, results: list[Any], items: Iterator[Any]) -> None:
        """See `Processor`."""
        keys, append, one = self._keys, results.append, self.one
        owners, seen, pass_on = keys.owners, keys.seen, keys.pass_on
        for keyed in items:
            ordinal, digest, given = keyed
            if digest in owners or digest in seen or type(digest) is not bytes:
                append(one(keyed))
                continue
            # Most items are new: for them what `one` does stands here, without a call.
            result = pass_on(given)
            owners[digest] = ordinal
            append(result)

    def one(self, item: Any) -> Any:
        """See `Processor`."""
        ordinal, digest, given = item
        keys = self._keys
        if digest in keys.owners:
            keys.waiting[ordinal] = item
        elif digest not in keys.seen:
            if not isinstance(digest, bytes):
                raise digest
            result = keys.pass_on(given)
            keys.owners[digest] = ordinal
            return result
        return [] if self.many else DROP

    def __enter__(self) -> Self:
        """Ready the processor behind."""
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the processor behind."""
        self._inner.__exit__(kind, error, traceback)


def keeping_keys(scope: Scope, step: Step[Any, Any]) -> Scope:
    """The scope with the step's secrets, and with the place of the keys that it has seen if it asks for that."""
    scope = replace(scope, secrets=step.secrets) if step.secrets else scope
    if not isinstance(step.process, Distinct):
        return scope
    return replace(scope, keys=KeySpace(scope.key, step.process.across_laps))


def step_processor(
    step: Step[Any, Any], key: StepKey, target: "OpenTarget", sink: Sink[Any] | None = None
) -> Processor:
    """How to call a step's processor; `sink` keeps the keys, if it is not the target's own.

    Raises DeclarationError for distinct in front of a sink that keeps no keys.
    """
    sink = sink or target.sink
    if not isinstance(step.process, Distinct):
        return processor_for(step.process, step.item_timeout_seconds)
    if not isinstance(sink, Remembers):
        raise DeclarationError(
            f"step '{step.name}': distinct needs a writer that keeps keys in step with its checkpoint",
            f"{step.target_address} does not",
            "use another writer, or write the keys into a table with a unique index",
        )
    remembers: Remembers = sink

    def look_up(digests: Sequence[bytes]) -> set[bytes]:
        try:
            return ask_for(sink, partial(remembers.known, digests), target.write_retry, target.attempts.pause)
        except Exception:
            # A stop interrupts what the target is asked: it ends the step, and nothing has failed.
            target.attempts.pause(0)
            raise

    return _deduplicating(step, step.process, key, remembers, look_up)


def trial_processor(step: Step[Any, Any], key: StepKey, memory: Remembers) -> Processor:
    """How to call a step's processor where nothing is written: `memory` is told what passed by whoever tries."""
    if not isinstance(step.process, Distinct):
        return processor_for(step.process, step.item_timeout_seconds)
    return _deduplicating(step, step.process, key, memory, memory.known)


def _deduplicating(
    step: Step[Any, Any],
    process: Distinct[Any, Any],
    key: StepKey,
    memory: Remembers,
    look_up: Callable[[Sequence[bytes]], set[bytes]],
) -> Deduplicating:
    inner = processor_for(process.then, step.item_timeout_seconds)
    return Deduplicating(inner, (process.key_of, KeySpace(key, process.across_laps).salt), memory, look_up)


def _digests(items: Sequence[Any], key_of: Callable[[Any], Any], salt: bytes) -> list[bytes | BaseException]:
    digests: list[bytes | BaseException] = []
    for item in items:
        try:
            digests.append(key_digest(key_of(item), salt))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a user's SystemExit is an item's failure too
            # Its traceback would hold these frames, and they the chunk, until the garbage collector comes.
            digests.append(error.with_traceback(None))
    return digests
