"""How the text of an option becomes a value: one small type for each annotation that a job's parameter may have.

The one rule: the message for a wrong value names what would be right; for a secret it never repeats the value.
"""

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin
from uuid import UUID

import click

from batchwright.cli.spelling import did_you_mean

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # older ones are not generic


def option_type(annotation: Any) -> ParamType | None:
    """The click type for an annotation, or None if there is none."""
    if get_origin(annotation) is Literal:
        return ChoiceType([(str(value), value) for value in get_args(annotation)])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ChoiceType([(str(member.value), member) for member in annotation], list(annotation.__members__.items()))
    return _plain_types().get(annotation) if isinstance(annotation, type) else None


def _plain_types() -> dict[type, ParamType]:
    return {
        str: click.STRING,
        int: WholeNumber(),
        float: _TextType("number", "1.5", float),
        Decimal: _TextType("decimal number", "1.50", _finite_decimal),
        UUID: _TextType("UUID", "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", UUID),
        bool: click.BOOL,
        date: _TextType("date", "YYYY-MM-DD", date.fromisoformat),
        datetime: _TextType("datetime", "YYYY-MM-DD[THH:MM[:SS]]", datetime.fromisoformat),
        Path: click.Path(path_type=Path),
    }


class WholeNumber(ParamType):
    """A whole number, not below `least` where that is given."""

    name = "integer"

    def __init__(self, least: int | None = None) -> None:
        """Any whole number by default."""
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number of this text."""
        try:
            number = int(value)
        except (ValueError, TypeError):
            self.fail(f"'{value}' is not a whole number", param, ctx)
        if self._least is not None and number < self._least:
            self.fail(f"{number} is too small; write {self._least} or more", param, ctx)
        return number


class Seconds(ParamType):
    """A number of seconds; `least` is the smallest that is allowed, by default any above 0."""

    name = "seconds"

    def __init__(self, least: float | None = None) -> None:
        """Any number above 0 by default."""
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number of this text."""
        try:
            seconds = float(value)
        except (ValueError, TypeError):
            self.fail(f"'{value}' is not a number of seconds", param, ctx)
        if not (0 < seconds < math.inf or seconds == self._least):
            self.fail(f"{value} is not a number of seconds above 0", param, ctx)
        return seconds


class SecretType(ParamType):
    """Another type whose values never appear in a message."""

    name = "secret"

    def __init__(self, inner: ParamType) -> None:
        """`inner` converts."""
        self._inner = inner

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What `inner` makes of it."""
        try:
            return self._inner.convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"the value (not shown) is not a valid {self._inner.name}", param, ctx)


class _TextType(ParamType):
    """A type with a function that reads it."""

    def __init__(self, name: str, form: str, parse: Callable[[str], Any]) -> None:
        self.name, self._form, self._parse = name, form, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, InvalidOperation) as error:
            why = "" if isinstance(error, InvalidOperation) else f" ({error})"
            self.fail(f"'{value}' is not a valid {self.name}{why}; write {self._form}", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        del param, ctx
        return self._form


def _finite_decimal(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise InvalidOperation
    return number


class ChoiceType(ParamType):
    """One of several values, by the text of the value, or by another name."""

    name = "choice"

    def __init__(self, choices: list[tuple[str, Any]], names: list[tuple[str, Any]] | None = None) -> None:
        """`choices` are shown; `names` are understood too."""
        self._texts = [text for text, _ in choices]
        self._values = dict([*(names or []), *choices])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of this text."""
        if not isinstance(value, str):
            return value
        if value in self._values:
            return self._values[value]
        return self._refuse(value, param, ctx)

    def _refuse(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> NoReturn:
        near = did_you_mean(value, self._texts)
        self.fail(f"'{value}' is none of {', '.join(self._texts)}{near and f'; {near}'}", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """All that is accepted."""
        del param, ctx
        return f"[{'|'.join(self._texts)}]"
