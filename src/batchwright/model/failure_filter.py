"""Which failures are meant: a few terms, all of which have to hold. No expression language.

The one rule: a term that cannot be meant is refused before a single failure is looked at.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from batchwright.model.errors import FilterError
from batchwright.model.failure import Failure

_TEXTS: dict[str, Callable[[Failure], str]] = {
    "step": lambda failure: failure.step,
    "error_type": lambda failure: failure.error_type,
    "error": lambda failure: failure.error,
    "phase": lambda failure: failure.phase.value,
    "source": lambda failure: failure.place.source,
    "place": lambda failure: str(failure.place),
    "payload": lambda failure: failure.payload or "",
    "state": lambda failure: failure.state.value,
}

_NUMBERS: dict[str, Callable[[Failure], int | None]] = {
    "item": lambda failure: failure.ordinal + 1,
    "ordinal": lambda failure: failure.ordinal,
    "line": lambda failure: failure.place.line,
    "byte": lambda failure: failure.place.byte,
    "attempts": lambda failure: failure.attempts,
}

FIELDS = (*_TEXTS, *_NUMBERS)

_TERM = re.compile(r"\s*(\w+)\s*(!=|!~|=|~)(.*)", re.DOTALL)
_RANGE = re.compile(r"(\d*)\.\.(\d*)|(\d+)")

_EXAMPLE = "write error_type=ValueError, error~text, line=10..20 or phase!=read"


@dataclass(frozen=True, slots=True)
class FailureFilter:
    """Terms as they are written: `error_type=ValueError`, `error~text`, `line=10..20`; with `!` before, not so.

    `=` compares the whole text, or a number with a number or a range whose ends belong to it; `~` looks for a part,
    whatever its case. Without terms every failure is meant. Raises FilterError.
    """

    terms: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        object.__setattr__(self, "terms", (self.terms,) if isinstance(self.terms, str) else tuple(self.terms))
        for term in self.terms:
            _condition(term)

    def chosen(self, failures: Iterable[Failure]) -> Iterable[Failure]:
        """Those of the failures that are meant, one at a time."""
        conditions = [_condition(term) for term in self.terms]
        return (failure for failure in failures if all(holds(failure) for holds in conditions))


def _condition(term: str) -> Callable[[Failure], bool]:
    found = _TERM.fullmatch(term)
    if found is None:
        raise FilterError("a filter has a field, a sign and a value", f"got {term!r}", _EXAMPLE)
    name, sign, value = found.group(1), found.group(2), found.group(3).strip()
    if name not in FIELDS:
        raise FilterError(f"failures have no field {name!r}", f"their fields are {', '.join(FIELDS)}", _EXAMPLE)
    holds = _text(name, sign, value) if name in _TEXTS else _number(name, sign, value)
    return (lambda failure: not holds(failure)) if sign.startswith("!") else holds


def _text(name: str, sign: str, value: str) -> Callable[[Failure], bool]:
    text, part = _TEXTS[name], value.casefold()
    if sign.endswith("~"):
        return lambda failure: part in text(failure).casefold()
    return lambda failure: text(failure) == value


def _number(name: str, sign: str, value: str) -> Callable[[Failure], bool]:
    number, found = _NUMBERS[name], _RANGE.fullmatch(value)
    if sign.endswith("~") or found is None or value == "..":
        raise FilterError(f"{name} is a number", f"got {name}{sign}{value}", f"write {name}=7 or {name}=10..20")
    low, high, exact = found.groups()
    first, last = int(exact or low or 0), _last(exact or high)
    return lambda failure: _within(number(failure), first, last)


def _last(text: Any) -> float:
    return int(text) if text else float("inf")


def _within(number: int | None, first: int, last: float) -> bool:
    return number is not None and first <= number <= last
