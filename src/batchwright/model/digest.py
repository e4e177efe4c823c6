"""Digests of items, by which a restart sees whether an input still gives what it gave.

The one rule: what has no lasting form has no digest, and is not compared; nothing is ever called changed by mistake.
"""

import hashlib
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from batchwright.model.codec import encode
from batchwright.model.errors import CodecError

LONG = 64 * 1024
"""Of longer texts and bytes the ends are looked at."""

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, date, datetime, time, Decimal, UUID})
"""Types whose `repr` is the same in every process."""


def item_digest(item: Any) -> str:
    """Equal for equal items in every process; empty for items that the codec cannot store.

    The entries of a dict count in their order: what reads the same gives the same order.
    """
    kind = type(item)
    if kind in (str, bytes) and len(item) > LONG:
        item = (len(item), item[: LONG // 2], item[-LONG // 2 :])
    plain = kind in _PLAIN or (kind is tuple and _PLAIN.issuperset(map(type, item)))
    # A row of plain values takes a tenth of what the codec does.
    plain = plain or (kind is dict and _PLAIN.issuperset(map(type, item.values())) and set(map(type, item)) <= {str})
    try:
        if plain:
            return _digest(repr(item))
        return _digest(encode(_fields(item)))
    except (CodecError, RecursionError, TypeError, ValueError):
        return ""


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _fields(item: Any) -> Any:
    if is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in fields(item)}
    return item
