"""Find failed items again: in the input, by position, or in their stored payloads.

The one rule: an item is given to its step again only if it is the one that failed, or somebody has said that another
one will do.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from batchwright.engine.record_failure import place_of, record_digest
from batchwright.model.block import BadRecord, Block, Position
from batchwright.model.codec import decode
from batchwright.model.errors import GroundChangedError, ItemChangedError, MalformedRecordError, NotAcceptedError
from batchwright.model.failure import Failure, PayloadKind, Phase
from batchwright.model.policy import Skip
from batchwright.model.secrets import HIDDEN
from batchwright.ports import Reader

NEARBY = 1_000
"""So many records before and behind its place a record that has moved is looked for."""

SHOWN_CHARACTERS = 200


class Items(Enum):
    """Which items a replay takes."""

    SAME = "same"
    """From the input, if they are what failed; where the input cannot be read there any more, from their payloads."""
    STORED = "stored"
    """From their payloads, as they failed then; the input is not read."""
    CHANGED = "changed"
    """What failed, at its place or near it; else, if somebody says yes to it, what stands in its place now."""


@dataclass(slots=True)
class Rereader:
    """Reads failed items of one step again, in the order of their ordinals: a block that holds several is read once.

    With `accepted`, somebody has said yes to items that are not the ones that failed.
    """

    reader: Reader[Any]
    items: Items = Items.SAME
    accepted: bool = False
    skip: Skip | None = None
    _blocks: Iterator[Block[Any]] | None = field(default=None, init=False)
    _block: Block[Any] | None = field(default=None, init=False)
    _first: int = field(default=0, init=False)
    _moved: dict[int, Any] = field(default_factory=dict, init=False)
    _taken: set[int] = field(default_factory=set, init=False)

    def prepare(self, batch: Sequence[Failure]) -> None:
        """Look for the records of the next failures near the places where they stood; for `Items.CHANGED` only.

        What cannot be read is left to `find`, which says so of each item.
        """
        if self.items is Items.CHANGED:
            with contextlib.suppress(Exception):
                self._moved = self._search(batch)

    def find(self, failure: Failure) -> Any:
        """The item, or a BadRecord whose error says why there is none to be given again."""
        try:
            return _payload_of(failure) if self.items is Items.STORED else self._from_input(failure)
        except Exception as error:  # noqa: BLE001 - what cannot be found stays open, whatever the reason
            return BadRecord(0, error, None)

    def close(self) -> None:
        """Let the input go."""
        blocks, self._blocks, self._block = self._blocks, None, None
        if blocks is not None and hasattr(blocks, "close"):
            blocks.close()

    def _search(self, batch: Sequence[Failure]) -> dict[int, Any]:
        """The records that failed, each by the ordinal that it had; none is found for two failures."""
        wanted: dict[str, list[Failure]] = {}
        for failure in batch:
            if then := _digest_then(failure):
                wanted.setdefault(then, []).append(failure)
        if not wanted:
            return {}
        found: dict[int, Any] = {}
        # Where it stood comes first; then whoever is nearest. What is found is held: no more than the batch.
        near = sorted(self._near(batch, wanted), key=lambda seen: abs(seen[1] - seen[2].ordinal))
        for record, ordinal, failure in near:
            if ordinal not in self._taken and failure.ordinal not in found:
                found[failure.ordinal] = record
                self._taken.add(ordinal)
        return found

    def _near(
        self, batch: Sequence[Failure], wanted: Mapping[str, Sequence[Failure]]
    ) -> Iterator[tuple[Any, int, Failure]]:
        """Records of the digests that are wanted, with where they stand now: at most NEARBY from where they did."""
        first, last = batch[0].ordinal - NEARBY, batch[-1].ordinal + NEARBY
        for ordinal, record in enumerate(_records(self.reader)):
            if ordinal > last:
                return
            for failure in wanted.get(record_digest(record), ()) if ordinal >= first else ():
                if abs(ordinal - failure.ordinal) <= NEARBY:
                    yield record, ordinal, failure

    def _from_input(self, failure: Failure) -> Any:
        if self.items is Items.CHANGED:
            return self._moved[failure.ordinal] if failure.ordinal in self._moved else self._changed(failure)
        try:
            found = self._at(failure.position)
        except Exception as error:
            if failure.payload_kind is PayloadKind.JSON:
                return _payload_of(failure)
            if isinstance(error, GroundChangedError):  # its own advice is for a run that goes on
                raise ItemChangedError("the input has changed since, up to this item", "", _CHOICES) from None
            raise
        _require_same(failure, found)
        return found

    def _changed(self, failure: Failure) -> Any:
        """What stands now where the item failed, if somebody has said yes to it."""
        found, place = self._counted(failure)
        _require_same_place(failure, place, self.reader)
        if failure.ordinal in self._taken:
            raise ItemChangedError("another failed item stands in its place now", "", "--stored takes what failed then")
        if not self.accepted and not isinstance(found, BadRecord):
            raise NotAcceptedError(
                "another item stands there now",
                f"then {_shown_then(failure)}; now {shown(found, self.skip)}",
                "--yes replays it",
            )
        self._taken.add(failure.ordinal)
        return found

    def _counted(self, failure: Failure) -> tuple[Any, Position]:
        """The record of this number, counted from the start: a mended record may have another length than it had."""
        found = self._at(Position(failure.ordinal), counted=True)
        anchor = self._block.anchor if self._block else None
        return found, Position(failure.ordinal, anchor, failure.ordinal - self._first)

    def _at(self, position: Position, *, counted: bool = False) -> Any:
        if self._block is None or not self._reaches(position, counted=counted):
            self.close()
            self._blocks = iter(self.reader.read(None if counted else position))
            self._first, self._block = 0 if counted else position.ordinal - position.offset, next(self._blocks, None)
        while self._block is not None and position.ordinal >= self._first + len(self._block):
            self._first += len(self._block)
            self._block = next(self._blocks, None) if self._blocks is not None else None
        if self._block is None:
            raise MalformedRecordError("the item is not in the input any more", "", "restore the input")
        return _record(self._block, position.ordinal - self._first)

    def _reaches(self, position: Position, *, counted: bool) -> bool:
        """Whether to read on, rather than to open the input again closer by."""
        assert self._block is not None  # noqa: S101 - for the type checker: asked only with a block
        ahead, anchor_at = position.ordinal - self._first, self._block.anchor_at
        if anchor_at is not None and not counted:
            # Records in between may be gone since: what is counted must be what stood there.
            return 0 <= ahead < len(self._block) and bool(anchor_at(ahead) == position.anchor)
        return ahead >= 0 and (counted or not self.reader.seeks or ahead < 2 * len(self._block))


def _records(reader: Reader[Any]) -> Iterator[Any]:
    blocks = reader.read(None)
    try:
        for block in blocks:
            bad = {record.index: record for record in block.bad}
            items = iter(block.items)
            for index in range(len(block)):
                yield bad[index] if index in bad else next(items)
    finally:
        if hasattr(blocks, "close"):
            blocks.close()


def shown(item: Any, skip: Skip | None) -> str:
    """An item in a few words, for a person who decides; without what `skip` keeps out of payloads."""
    redact = skip.redact if skip is not None else ()
    if skip is not None and not skip.payload:
        return "(not shown: payload=False)"
    if redact:
        hidden = dict.fromkeys(redact, HIDDEN)
        item = (
            {name: hidden.get(name, value) for name, value in item.items()} if isinstance(item, Mapping) else type(item)
        )
    try:
        text = repr(item)
    except Exception:  # noqa: BLE001 - a user's __repr__ may do anything
        text = f"<{type(item).__qualname__}>"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _shown_then(failure: Failure) -> str:
    if failure.payload_kind is PayloadKind.JSON:
        return shown(_payload_of(failure), None)
    return "unknown: it was not kept" if failure.payload is None else shown(failure.payload, None)


def _digest_then(failure: Failure) -> str:
    if failure.digest or failure.payload_kind is not PayloadKind.JSON:
        return failure.digest
    return record_digest(_payload_of(failure))


def _record(block: Block[Any], index: int) -> Any:
    known = {record.index: record for record in block.bad}
    return known[index] if index in known else block.items[index - sum(other < index for other in known)]


def _payload_of(failure: Failure) -> Any:
    if failure.payload_kind is PayloadKind.JSON and failure.payload is not None:
        return decode(failure.payload)
    kept = {
        PayloadKind.NONE: "it was not kept",
        PayloadKind.RAW: "only the text of a record that could not be read is",
        PayloadKind.TRUNCATED: "it was too long",
    }
    raise MalformedRecordError("the item is not stored whole", kept.get(failure.payload_kind, "a part of it is hidden"))


def _require_same(failure: Failure, found: Any) -> None:
    """Raise ItemChangedError unless this is the record that failed."""
    then = _digest_then(failure)
    if then and record_digest(found) == then:
        return
    if isinstance(found, BadRecord):
        if failure.phase is Phase.READ:
            return  # it cannot be read either, and its own error says why
        raise ItemChangedError("what stands in the input now cannot be read", f"{found.error}", _CHOICES)
    if not then:
        raise ItemChangedError("whether the item is the same cannot be told", "nothing is known to compare", _CHOICES)
    if failure.phase is Phase.READ:
        raise ItemChangedError("the record can be read now", "", "--accept-changed shows it")
    raise ItemChangedError("the item in the input is another one now", "", _CHOICES)


def _require_same_place(failure: Failure, position: Position, reader: Reader[Any]) -> None:
    """Raise ItemChangedError if records were added or removed before it: then this is the wrong one."""
    now, then = place_of(reader, position), failure.place
    if (now.line, now.detail) != (then.line, then.detail):
        raise ItemChangedError(
            "records were added or removed before it, and the one that failed is not nearby any more",
            f"it was at {then}, item {failure.ordinal + 1} is at {now} now",
            "--stored takes what failed then",
        )


_CHOICES = "--accept-changed shows what is there now and takes it, --stored takes what failed then"
