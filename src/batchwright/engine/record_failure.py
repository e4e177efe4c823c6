"""Make the record of an item that is set aside: place, error, payload.

The one rule: making the record never fails, whatever the item, its error or the reader are like; no secret is in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from hashlib import blake2b
from typing import Any

from batchwright.engine.read_chunks import Chunk
from batchwright.model.block import BadRecord, Place, Position
from batchwright.model.codec import encode
from batchwright.model.failure import Failure, PayloadKind
from batchwright.model.policy import Skip
from batchwright.model.secrets import HIDDEN, scrub
from batchwright.model.work import SetAside
from batchwright.ports import Clock, Reader

MAX_PAYLOAD_BYTES = 64 * 1024
MAX_ERROR_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class FailureRecorder:
    """Records failures of one step. `secrets` are texts that never appear in a record."""

    step: str
    reader: Reader[Any]
    clock: Clock
    skip: Skip | None
    secrets: Sequence[str] = ()

    def record(self, chunk: Chunk, index: int, why: SetAside) -> Failure:
        """The failure of the record at this index of a chunk."""
        position = chunk.locate(index)
        payload, kind = self._payload(chunk, index)
        # A traceback holds the frames that hold the chunk, and those hold the error: a circle that keeps every chunk
        # with a failure in memory until the collector comes by.
        why.error.__traceback__ = None
        return Failure(
            step=self.step,
            position=position,
            phase=why.phase,
            error_type=type(why.error).__qualname__,
            error=error_text(why.error, self.secrets),
            attempts=why.attempts,
            place=self._place(chunk, index, position),
            at=self.clock.now(),
            payload=payload,
            payload_kind=kind,
            digest=record_digest(chunk.bad[index] if index in chunk.bad else _item(chunk, index)),
        )

    def _place(self, chunk: Chunk, index: int, position: Position) -> Place:
        place = chunk.place(index) or place_of(self.reader, position)
        return Place(scrub(place.source, self.secrets), place.line, place.byte, scrub(place.detail, self.secrets))

    def _payload(self, chunk: Chunk, index: int) -> tuple[str | None, PayloadKind]:
        if self.skip is None or not self.skip.payload:
            return None, PayloadKind.NONE
        if index in chunk.bad and self.skip.redact:
            # A record that could not be read has no fields yet; any part of it may be what must not be kept.
            return None, PayloadKind.NONE
        if index in chunk.bad:
            raw = chunk.bad[index].raw
            text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
            kind = PayloadKind.RAW if text is not None else PayloadKind.NONE
        else:
            text, kind = _stored(_item(chunk, index), self.skip.redact)
        if text is None:
            return None, kind
        hidden = scrub(text, self.secrets)
        if len(hidden.encode()) > MAX_PAYLOAD_BYTES:
            return hidden.encode()[:MAX_PAYLOAD_BYTES].decode("utf-8", "ignore"), PayloadKind.TRUNCATED
        # A payload with something hidden in it cannot be given to the processor again.
        return hidden, PayloadKind.DESCRIPTION if hidden != text and kind is PayloadKind.JSON else kind


def record_digest(record: Any) -> str:
    """Equal for equal records, in every process; empty where that cannot be told."""
    try:
        if isinstance(record, BadRecord):
            text = encode([type(record).__name__, record.raw]) if record.raw is not None else ""
        else:
            text = encode(asdict(record) if is_dataclass(record) else record, canonical=True)  # type: ignore[arg-type] # an instance, since classes cannot be encoded either
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest() if text else ""
    except Exception:  # noqa: BLE001 - an item may be anything; what cannot be stored cannot be compared
        return ""


def _item(chunk: Chunk, index: int) -> Any:
    return chunk.items[chunk.good_indexes().index(index)]


def place_of(reader: Reader[Any], position: Position) -> Place:
    """Where a person finds the item; the input's address and the item's number if the reader cannot tell."""
    try:
        return reader.place(position)
    except Exception:  # noqa: BLE001 - the input may be gone by now; the failure is kept all the same
        return Place(reader.address, detail=f"item {position.ordinal + 1}")


def error_text(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """An error's message, storable and without secrets, whatever its `__str__` does."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's exception may do anything
        text = "(its message cannot be shown)"
    return scrub(text, secrets)[:MAX_ERROR_CHARACTERS]


def describe_error(error: BaseException, secrets: Sequence[str] = ()) -> str:
    """Type, message and notes of an error in one line, for a status or a result."""
    notes = "; ".join(str(note) for note in getattr(error, "__notes__", ()))
    name = "" if hasattr(error, "exit_code") else f"{type(error).__qualname__}: "
    return scrub(f"{name}{error_text(error)}{f' ({notes})' if notes else ''}", secrets)[:MAX_ERROR_CHARACTERS]


def _stored(item: Any, redact: Sequence[str]) -> tuple[str, PayloadKind]:
    redacted = False
    if redact and isinstance(item, Mapping) and any(name in item for name in redact):
        item, redacted = {**item, **{name: HIDDEN for name in redact if name in item}}, True
    try:
        text = encode(item)
        text.encode("utf-8")
    except Exception:  # noqa: BLE001 - an item may be anything; what cannot be stored is described
        return _described(item, redact), PayloadKind.DESCRIPTION
    return text, PayloadKind.DESCRIPTION if redacted else PayloadKind.JSON


def _described(item: Any, redact: Sequence[str]) -> str:
    if redact:
        # A redacted field may be anywhere in an object's description.
        return f"<{type(item).__qualname__}>"
    try:
        return repr(item)
    except Exception:  # noqa: BLE001 - a user's __repr__ may do anything
        return f"<{type(item).__qualname__}>"


def note_place(
    error: BaseException, verb: str, reader: Reader[Any], position: Position, where: tuple[str, str]
) -> None:
    """Add a note to a user's exception: which item, where it is, in which step of which job."""
    step, job = where
    place = place_of(reader, position)
    error.add_note(f"while {verb} item {position.ordinal + 1} ({place}) of step '{step}' of job '{job}'")
