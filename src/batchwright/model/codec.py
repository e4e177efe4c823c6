"""The one codec for everything stored: JSON with tags for what JSON lacks. No pickle, ever.

Format, version 1: `{"v":1,"value":…}`. None, booleans, integers, finite floats, strings and lists stand for themselves;
a dict with string keys does too, unless it has a key that starts with `$`. Everything else is a dict of one tagged
entry: `{"$date":"2026-11-22"}`, `{"$datetime":…}`, `{"$time":…}`, `{"$timedelta":seconds}` (as [days, seconds,
microseconds]), `{"$decimal":"1.10"}`, `{"$uuid":…}`, `{"$bytes":base64}`, `{"$path":…}`, `{"$tuple":[…]}`,
`{"$set":[…]}` and `{"$dict":[[key, value],…]}` (both sorted by text). NaN and infinities are refused.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from batchwright.model.errors import CodecError

VERSION = 1
MAX_DEPTH = 200

_AS_THEY_ARE = frozenset({type(None), bool, int, str})
"""Types that JSON knows and gives back as they were."""

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(value: object, *, canonical: bool = False) -> str:
    """The value as one line of JSON. With `canonical`, equal values give equal text: keys are sorted.

    Raises CodecError for what the codec does not know: other classes, NaN, infinities, nesting beyond 200.
    """
    document = {"v": VERSION, "value": _sorted(_pack(value, 0)) if canonical else _pack(value, 0)}
    return _to_json(document)


def decode(text: str) -> Any:
    """The value that `encode` was given. Raises CodecError for anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError("a stored value is not JSON", str(error)) from error
    if not isinstance(document, dict) or "v" not in document or "value" not in document:
        raise CodecError("a stored value has no version", f"got {text[:60]!r}")
    if document["v"] != VERSION:
        raise CodecError(
            f"a stored value has version {document['v']}", f"this batchwright reads version {VERSION}", "upgrade it"
        )
    return _unpack(document["value"])


def _pack(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise CodecError(f"a value is nested deeper than {MAX_DEPTH} levels")
    kind = type(value)
    if kind in _AS_THEY_ARE or (kind is dict and _is_plain(value)):
        return value
    if kind is float:
        return _finite(value)
    if kind is list:
        plain = _AS_THEY_ARE.issuperset(map(type, value))
        return value if plain else [_pack(entry, depth + 1) for entry in value]
    if isinstance(value, Mapping):
        return _pack_mapping(value, depth)
    return _pack_tagged(value, depth)


def _is_plain(value: dict[Any, Any]) -> bool:
    """Whether JSON takes it as it is: most of what is stored with every chunk."""
    return _AS_THEY_ARE.issuperset(map(type, value.values())) and all(
        type(key) is str and not key.startswith("$") for key in value
    )


def _pack_tagged(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is tuple:
        return {"$tuple": [_pack(entry, depth + 1) for entry in value]}
    if isinstance(value, set | frozenset):
        return {"$set": sorted((_pack(entry, depth + 1) for entry in value), key=json.dumps)}
    for known, tag, pack in _PACKERS:
        if isinstance(value, known):
            return {tag: pack(value)}
    if isinstance(value, Enum):
        return _pack(value.value, depth + 1)
    raise CodecError(
        f"a value of type {kind.__module__}.{kind.__qualname__} cannot be stored",
        "the codec knows None, bool, int, float, str, bytes, date, time, Decimal, UUID, Path, list, tuple, set, dict",
    )


def _pack_mapping(value: Mapping[Any, object], depth: int) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _pack(entry, depth + 1) for key, entry in value.items()}
    pairs = [[_pack(key, depth + 1), _pack(entry, depth + 1)] for key, entry in value.items()]
    return {"$dict": pairs}


def _sorted(packed: Any) -> Any:
    """The same with every dict in the order of its keys."""
    if isinstance(packed, list):
        return [_sorted(entry) for entry in packed]
    if not isinstance(packed, dict):
        return packed
    if packed.keys() == {"$dict"}:
        return {"$dict": sorted(_sorted(packed["$dict"]), key=lambda pair: json.dumps(pair[0]))}
    return {key: _sorted(packed[key]) for key in sorted(packed)}


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise CodecError(f"{value} cannot be stored", "JSON has no NaN and no infinity")
    return value


_PACKERS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (datetime, "$datetime", datetime.isoformat),
    (date, "$date", date.isoformat),
    (time, "$time", time.isoformat),
    (timedelta, "$timedelta", lambda delta: [delta.days, delta.seconds, delta.microseconds]),
    (Decimal, "$decimal", lambda number: str(_finite_decimal(number))),
    (UUID, "$uuid", str),
    (bytes, "$bytes", lambda data: base64.b64encode(data).decode("ascii")),
    (PurePath, "$path", str),
)

_UNPACKERS: dict[str, Callable[[Any], Any]] = {
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": base64.b64decode,
    "$path": Path,
    "$tuple": lambda entries: tuple(_unpack(entry) for entry in entries),
    "$set": lambda entries: {_unpack(entry) for entry in entries},
    "$dict": lambda pairs: {_unpack(key): _unpack(entry) for key, entry in pairs},
}


def _finite_decimal(number: Decimal) -> Decimal:
    if not number.is_finite():
        raise CodecError(f"{number} cannot be stored", "only finite decimals are")
    return number


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        tag, content = next(iter(value.items()))
        if tag.startswith("$"):
            if tag not in _UNPACKERS:
                raise CodecError(f"a stored value has the unknown tag {tag}")
            try:
                return _UNPACKERS[tag](content)
            except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
                raise CodecError(f"a stored {tag} cannot be read", f"{error}") from error
    return {key: _unpack(entry) for key, entry in value.items()}
