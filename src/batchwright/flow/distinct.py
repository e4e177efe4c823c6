"""Let an item pass whose key was not seen before; the others are filtered.

The one rule: a key counts as seen once the chunk of its first good item is committed, and in the same transaction.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, overload

from batchwright.model.distinct import Distinct
from batchwright.model.drop import Drop
from batchwright.model.errors import DeclarationError

In = TypeVar("In")
Out = TypeVar("Out")


class Passing(Protocol):
    """What passes on the items themselves, of whatever type."""

    def __call__(self, item: In, /) -> In | Drop:
        """See `Distinct`."""
        ...


@overload
def distinct(*, key: str | Sequence[str] | Callable[[Any], object], across_laps: bool = False) -> Passing: ...


@overload
def distinct(
    *,
    key: str | Sequence[str] | Callable[[In], object],
    then: Callable[[In], Iterator[Out]],
    across_laps: bool = False,
) -> Distinct[In, Iterator[Out]]: ...


@overload
def distinct(
    *,
    key: str | Sequence[str] | Callable[[In], object],
    then: Callable[[In], AsyncIterator[Out]],
    across_laps: bool = False,
) -> Distinct[In, AsyncIterator[Out]]: ...


@overload
def distinct(
    *,
    key: str | Sequence[str] | Callable[[In], object],
    then: Callable[[In], Awaitable[Out | Drop]],
    across_laps: bool = False,
) -> Distinct[In, Awaitable[Out | Drop]]: ...


@overload
def distinct(
    *,
    key: str | Sequence[str] | Callable[[In], object],
    then: Callable[[In], Out | Drop],
    across_laps: bool = False,
) -> Distinct[In, Out | Drop]: ...


def distinct(*, key: Any, then: Any = None, across_laps: bool = False) -> Any:
    """A processor that lets the first good item of each key pass; items whose key was seen before are filtered.

    `key` is the name of a field, several names, or a function of the item; `then` is the processor for what passes, of
    any kind that a step takes. An item that fails does not count: the next one with its key passes. One that `then`
    drops does. Which keys were seen is committed together with the chunk, so it survives any crash.

    Keys count within one step and one lap; with `across_laps=True` also those of earlier laps that the step has
    finished. Keys are equal if type and value are: 1 and "1" differ. An item without the field, or whose key is None,
    NaN or cannot be stored, fails in phase `process`. Raises DeclarationError for what cannot be meant.
    """
    names = key if callable(key) else (key,) if isinstance(key, str) else _names(key)
    if not callable(names) and not (names and all(isinstance(name, str) and name for name in names)):
        raise DeclarationError(
            "distinct: key must be the name of a field, several names or a function", f"got {key!r}", 'write key="id"'
        )
    if isinstance(then, Distinct):
        raise DeclarationError(
            "distinct: then cannot be another distinct", "", "give both keys as one, or use two steps"
        )
    if then is not None and not callable(then):
        raise DeclarationError("distinct: then must be a function", f"got {then!r}")
    if not isinstance(across_laps, bool):
        raise DeclarationError("distinct: across_laps must be True or False", f"got {across_laps!r}")
    return Distinct(names, then, across_laps)


def _names(key: Any) -> tuple[Any, ...]:
    return tuple(key) if isinstance(key, list | tuple) else ()
