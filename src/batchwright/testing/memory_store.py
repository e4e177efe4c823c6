"""A store of checkpoints and failures in memory. The one rule: what it gives back has been through the codec."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.failure import Failure


class MemoryStore:
    """A `CheckpointStore` for tests of sinks. A checkpoint that a ledger could not store raises CodecError here too."""

    def __init__(self) -> None:
        """Start empty."""
        self._checkpoints: dict[StepKey, Checkpoint] = {}
        self._failures: dict[StepKey, dict[int, Failure]] = {}

    def load_checkpoint(self, key: StepKey) -> Checkpoint | None:
        """The last checkpoint stored under this key."""
        return self._checkpoints.get(key)

    def save_checkpoint(self, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Replace the checkpoint and add the failures; one that is already there stays as it is."""
        anchor, fingerprint = decode(encode([checkpoint.position.anchor, checkpoint.position.fingerprint]))
        self._checkpoints[key] = replace(
            checkpoint,
            position=replace(checkpoint.position, anchor=anchor, fingerprint=fingerprint),
            state=decode(encode(dict(checkpoint.state))),
        )
        known = self._failures.setdefault(key, {})
        for failure in failures:
            known.setdefault(failure.ordinal, failure)

    def load_failures(self, key: StepKey) -> Iterator[Failure]:
        """Every failure stored under this key, by ordinal."""
        known = self._failures.get(key, {})
        return iter([known[ordinal] for ordinal in sorted(known)])

    def copy(self) -> "MemoryStore":
        """A store of its own with the same content: what a crash leaves."""
        other = MemoryStore()
        other._checkpoints.update(self._checkpoints)
        other._failures.update({key: dict(failures) for key, failures in self._failures.items()})
        return other
