"""What `distinct` declares, and what a key becomes when it is stored: a digest of 128 bits.

The one rule: equal keys give equal digests in every process and every version; what cannot be told apart from others
for sure (None, NaN, an object of a class that the codec does not know) is an error, never a key.

Two of n keys share a digest by chance with a probability of n²/2^129: for a thousand million keys 1 in 10^20, far below
that of a disk that answers wrongly. So a digest stands for its key, and takes 16 bytes however long the key is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Any, Generic, TypeVar

from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.codec import encode
from batchwright.model.errors import DeclarationError, MissingKeyError

In_contra = TypeVar("In_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

DIGEST_BYTES = 16


@dataclass(frozen=True, eq=False)
class Distinct(Generic[In_contra, Result_co]):
    """A processor that lets an item pass whose key was not seen before. Made by `batchwright.distinct`.

    `key` are names of fields or a function; `then` is the processor behind, if there is one. The engine takes it apart:
    it is never called itself.
    """

    key: tuple[str, ...] | Callable[[Any], Any]
    then: Callable[[Any], Any] | None
    across_laps: bool

    def __call__(self, item: In_contra) -> Result_co:  # noqa: ARG002 - a processor is called like this
        """Raise DeclarationError: which keys were seen, only a step knows."""
        raise DeclarationError(
            "distinct works as the process= of a step only", "it was called by a function", "put the rest into then="
        )

    @property
    def key_of(self) -> Callable[[Any], Any]:
        """The key of an item. Raises MissingKeyError for a field that is not there, and whatever a function raises."""
        if callable(self.key):
            return self.key
        if len(self.key) == 1:
            return _field(self.key[0])
        fields = [_field(name) for name in self.key]
        return lambda item: tuple(field(item) for field in fields)


@dataclass(frozen=True, slots=True)
class KeySpace:
    """Whose keys are seen together: a step's within a lap or, with `across_laps`, in all its finished laps too."""

    step: StepKey
    across_laps: bool = False

    @property
    def salt(self) -> bytes:
        """What all digests of this space begin from: two spaces share none."""
        key = self.step
        laps = "all" if self.across_laps else str(key.lap)
        parts = (key.job, key.parameters_hash, laps, key.step, str(key.partition))
        return sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()

    @property
    def scope(self) -> bytes:
        """A short name under which the keys of this space are found, to be counted or deleted."""
        return self.salt[:8]

    def is_over(self, checkpoint: Checkpoint) -> bool:
        """Whether nobody asks for these keys again: the lap is finished, and there is no failure to replay."""
        return checkpoint.finished and not self.across_laps and not checkpoint.counts.failed


@dataclass(frozen=True, slots=True)
class SeenKeys:
    """Keys that came with what a checkpoint says is done, to be stored together with it."""

    space: KeySpace
    digests: Sequence[bytes] = ()


def key_digest(key: Any, salt: bytes) -> bytes:
    """The digest of a key. Raises MissingKeyError for None, CodecError for what cannot be stored.

    Keys are equal if they are stored the same: `1`, `"1"`, `1.0` and `True` are four keys. The form is for good:
    another one would make every key that was stored across laps a new one.
    """
    kind = type(key)
    if kind is str:
        data = b"s" + key.encode("utf-8", "surrogatepass")
    elif kind is int:
        data = b"i%d" % key
    else:
        if key is None or (kind is tuple and all(part is None for part in key)):
            raise MissingKeyError("distinct: an item has no key", f"its key is {key!r}", MISSING)
        data = b"j" + encode(key, canonical=True).encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=DIGEST_BYTES, key=salt).digest()


MISSING = "give a function as key= that says what stands for a missing one"


def _field(name: str) -> Callable[[Any], Any]:
    def field(item: Any) -> Any:
        try:
            # Asking a class whether it is a Mapping takes longer than a look at what most items are.
            return item[name] if type(item) is dict or isinstance(item, Mapping) else getattr(item, name)
        except (KeyError, AttributeError):
            found = f"it has {', '.join(map(str, item))}" if isinstance(item, Mapping) else f"it is {type(item)}"
            raise MissingKeyError(f"distinct: an item has no field '{name}'", found[:500], MISSING) from None

    return field
