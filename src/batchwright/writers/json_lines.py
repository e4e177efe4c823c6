"""JSON Lines: one JSON value a line, in UTF-8.

The one rule: plain JSON that every reader understands. Dates, decimals and UUIDs are plain strings; NaN is refused.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from batchwright.ports import Writer
from batchwright.writers.staged_files import StagedFile
from batchwright.writers.text_files import LineEncoder


def json_lines_file(path: str | os.PathLike[str]) -> Writer[object]:
    """Write each output as one line of JSON. Exactly once; the file appears when the step is complete.

    Keys keep their order. Dataclasses become objects. An output with NaN, an infinity, or a value that JSON does not
    know is that item's failure. An existing file is replaced and its mode kept; a symbolic link is followed.
    """
    return StagedFile(os.fspath(path), "jsonl", _encoder)


def _encoder() -> LineEncoder[object]:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain).encode

    def join(outputs: Sequence[object]) -> str:
        return "\n".join(map(encode, outputs))

    return LineEncoder("JSON Lines", "utf-8", join, encode)


def _plain(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"the decimal {value} has no place in JSON; write None if that is meant")
        return str(value)
    if isinstance(value, UUID | PurePath):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {part.name: getattr(value, part.name) for part in fields(value)}
    raise TypeError(f"JSON has no place for a value of type {type(value).__name__}; convert it in the processor")
