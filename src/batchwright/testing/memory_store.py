"""A store of checkpoints, failures and keys in memory. The one rule: what it gives back has been through the codec."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.failure import Failure, FailureState


class MemoryStore:
    """A `CheckpointStore` for tests of sinks. A checkpoint that a ledger could not store raises CodecError here too."""

    def __init__(self) -> None:
        """Start empty."""
        self._checkpoints: dict[StepKey, Checkpoint] = {}
        self._failures: dict[StepKey, dict[int, Failure]] = {}
        self._keys: dict[KeySpace, set[bytes]] = {}

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint stored under this key."""
        return self._checkpoints.get(key)

    def save_checkpoint(
        self, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure], seen: SeenKeys | None = None
    ) -> None:
        """Replace the checkpoint and add failures and keys; what is already there stays as it is."""
        anchor, fingerprint = decode(encode([checkpoint.position.anchor, checkpoint.position.fingerprint]))
        self._checkpoints[key] = replace(
            checkpoint,
            position=replace(checkpoint.position, anchor=anchor, fingerprint=fingerprint),
            state=decode(encode(dict(checkpoint.state))),
        )
        known = self._failures.setdefault(key, {})
        for failure in failures:
            known.setdefault(failure.ordinal, failure)
        if seen is not None:
            self._keys.setdefault(seen.space, set()).update(seen.digests)
            if seen.space.is_over(checkpoint):
                del self._keys[seen.space]

    def known_keys(self, space: KeySpace, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are stored, in one lap."""
        return self._keys.get(space, set()).intersection(digests)

    def load_failures(self, key: StepKey) -> Iterator[Failure]:
        """Every failure stored under this key, by ordinal."""
        known = self._failures.get(key, {})
        return iter([known[ordinal] for ordinal in sorted(known)])

    def settle_failures(
        self,
        key: StepKey,
        ordinals: Sequence[int],
        state: FailureState = FailureState.REPLAYED,
        note: str = "",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Move failures into a state; with a checkpoint, store that too."""
        known = self._failures.setdefault(key, {})
        for ordinal in ordinals:
            if ordinal in known and known[ordinal].state is state.source:
                known[ordinal] = replace(known[ordinal], state=state, note=note)
        if checkpoint is not None:
            self.save_checkpoint(key, checkpoint, ())

    def copy(self) -> "MemoryStore":
        """A store of its own with the same content: what a crash leaves."""
        other = MemoryStore()
        other._checkpoints.update(self._checkpoints)
        other._failures.update({key: dict(failures) for key, failures in self._failures.items()})
        other._keys.update({space: set(digests) for space, digests in self._keys.items()})
        return other
