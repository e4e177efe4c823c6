"""What a step did outside: one call for one output, its state, its receipt, and the key that it was made under.

The one rule: an effect's key depends on what it is for, never on who makes it or when, so that a call made again after
a crash is known to its receiver.

The states of an effect, and what is known in each when the process dies:
  intent        it is about to be called, or was: not known. At most one effect of a step is in this state
  done          it was called; the receipt is kept. It is never called again
  failed        the call raised, or is known not to have been made; it may be called again, under the same key
  compensating  its compensation is about to be called, or was: not known. It is called again, under the same key
  compensated   it is undone, for good

intent → done | failed · failed → intent · done, intent, failed → compensating → compensated
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from batchwright.model.checkpoint import StepKey
from batchwright.model.codec import decode, encode
from batchwright.model.errors import CodecError
from batchwright.model.secrets import HIDDEN, scrub

MAX_KEPT_BYTES = 64 * 1024
"""What is kept of an output, and of a receipt."""


class EffectState(StrEnum):
    """How far an effect is."""

    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"


STANDING = frozenset({EffectState.DONE, EffectState.INTENT, EffectState.COMPENSATING})
"""Of what is in one of these states something may be there to be undone."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One call to the outside for one output: what `compensate=` is given to undo.

    `ordinal` is the place of the item in its step's input, `index` that of the output among the item's. `key` is what
    the call was made under; `compensation_key` is another one, as stable, for the call that undoes it.
    """

    ordinal: int
    index: int
    key: str
    state: EffectState
    stored_output: str | None = None
    stored_receipt: str | None = None
    error: str = ""

    @property
    def output(self) -> Any:
        """What the function was called with. Raises CodecError if that could not be kept."""
        if self.stored_output is None:
            raise CodecError(
                f"the output of effect {self.key} was not kept",
                "it is larger than 64 KiB, or no plain data",
                "undo it by its key or its receipt",
            )
        return decode(self.stored_output)

    @property
    def receipt(self) -> Any:
        """What the call returned, or what `ask` says that it did; None, too, if that is not known: see `certain`."""
        return None if self.stored_receipt is None else decode(self.stored_receipt)

    @property
    def certain(self) -> bool:
        """Whether the call is known to have had its effect. If not, it may have had it, or may not."""
        return self.stored_receipt is not None

    @property
    def compensation_key(self) -> str:
        """The key for the call that undoes this one."""
        return _digest("compensation", self.key)


@dataclass(frozen=True, slots=True)
class NumberedOutput:
    """An output together with the item it comes from, for sinks that take ordinals."""

    ordinal: int
    index: int
    output: Any


@dataclass(frozen=True, slots=True)
class EffectCount:
    """How many effects of a step are in a state."""

    step: str
    state: EffectState
    count: int


def effect_key(key: StepKey, ordinal: int, index: int) -> str:
    """The key of an effect: the same in every run and process."""
    parts = (key.job, key.parameters_hash, key.lap, key.step, key.partition, ordinal, index)
    return _digest("effect", *map(str, parts))


def keepable_output(output: object, secrets: Sequence[str], redact: Sequence[str]) -> str | None:
    """An output as it is kept: without secrets and redacted fields; None if it is too large, or no plain data."""
    if redact and isinstance(output, Mapping):
        output = {name: HIDDEN if name in redact else value for name, value in output.items()}
    try:
        text = scrub(encode(output), secrets)
    except (CodecError, RecursionError):
        return None
    return text if len(text.encode()) <= MAX_KEPT_BYTES else None


def keepable_receipt(receipt: object, secrets: Sequence[str]) -> str:
    """A receipt as it is kept, without secrets. Raises CodecError if it is too large, or no plain data."""
    text = scrub(encode(receipt), secrets)
    if len(text.encode()) > MAX_KEPT_BYTES:
        raise CodecError("a receipt must not be larger than 64 KiB", f"got {len(text.encode()):,} bytes")
    return text


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
