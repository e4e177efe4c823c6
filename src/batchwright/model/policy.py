"""Retry and Skip: values that say which errors, how often, how long between, and how many at most."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchwright.model.errors import DeclarationError

Errors = type[BaseException] | tuple[type[BaseException], ...]

RATE_FROM_ITEMS = 1_000
"""A rate is judged at commits from this many items on, and at the end."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after these errors: `attempts` in all, waiting longer each time.

    The wait before attempt n+1 is a random time between 0 and
    `min(max_delay_seconds, delay_seconds * multiplier ** (n - 1))`: exponential back-off with full jitter, after
    Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    `when` looks at such an error and says whether the same call may pass in a moment: a 503 does, a 404 does not. It is
    asked between two attempts, where the function is called; an error of its own ends the step.
    """

    on: Errors = Exception
    attempts: int = 3
    delay_seconds: float = 0.1
    max_delay_seconds: float = 30.0
    multiplier: float = 2.0
    when: Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check_errors("Retry", self.on)
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise DeclarationError("Retry: attempts must be a whole number", f"got {self.attempts!r}")
        if self.attempts < 1:
            raise DeclarationError("Retry: attempts must be at least 1", f"got {self.attempts}", "")
        if not (self.delay_seconds >= 0 and self.max_delay_seconds >= 0 and self.multiplier >= 1):
            raise DeclarationError(
                "Retry: delays must not be negative and multiplier must be at least 1",
                f"got delay_seconds={self.delay_seconds}, max_delay_seconds={self.max_delay_seconds}, "
                f"multiplier={self.multiplier}",
            )
        if self.when is not None and (not callable(self.when) or isinstance(self.when, type) or _is_async(self.when)):
            raise DeclarationError(
                "Retry: when must be a plain function of the error that returns True or False",
                f"got {self.when!r}",
                "write Retry(on=OSError, when=may_pass)",
            )

    def covers(self, error: BaseException) -> bool:
        """Whether this is an error after which it may be tried again."""
        return isinstance(error, self.on) and (self.when is None or bool(self.when(error)))

    def allows(self, error: BaseException, attempts_made: int) -> bool:
        """Whether another attempt is due after this error."""
        return attempts_made < self.attempts and self.covers(error)

    def wait_seconds(self, attempts_made: int) -> float:
        """A random wait before the next attempt."""
        try:
            ceiling = self.delay_seconds * self.multiplier ** (attempts_made - 1)
        except OverflowError:
            ceiling = self.max_delay_seconds
        return random.uniform(0.0, min(self.max_delay_seconds, ceiling))


@dataclass(frozen=True, slots=True)
class Skip:
    """Set items aside that fail with these errors, up to a limit.

    `limit` is a count (`50`), a rate (`"0.1%"`) or None for no limit. A count holds over the lap; a rate is judged at
    commits from 1,000 items on, and at the end. `payload=False` keeps no payloads; `redact` names fields whose values
    are not kept.
    """

    on: Errors = Exception
    limit: int | str | None = None
    payload: bool = True
    redact: Sequence[str] = ()
    _parsed: tuple[int | None, float | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check_errors("Skip", self.on)
        names = (self.redact,) if isinstance(self.redact, str) else tuple(self.redact)
        object.__setattr__(self, "redact", names)
        object.__setattr__(self, "_parsed", parse_limit(self.limit))

    @property
    def most(self) -> int | None:
        """How many items may fail; None where the limit is a rate, or there is none."""
        return self._parsed[0]

    def exceeded(self, failed: int, read: int, *, at_end: bool = False) -> bool:
        """Whether this many failures among this many items are too many."""
        count, rate = self._parsed
        if count is not None:
            return failed > count
        if rate is not None and (read >= RATE_FROM_ITEMS or at_end):
            return failed > rate * read
        return False


def parse_limit(limit: float | str | None) -> tuple[int | None, float | None]:
    """A limit as (count, rate): `50`, `"50"` → (50, None); `"2%"` → (None, 0.02); None → (None, None)."""
    if limit is None:
        return None, None
    if isinstance(limit, bool) or not isinstance(limit, int | str):
        raise _no_limit(limit)
    try:
        if isinstance(limit, str) and limit.strip().endswith("%"):
            rate = float(limit.strip()[:-1]) / 100
            if not 0 <= rate <= 1:
                raise _no_limit(limit)
            return None, rate
        count = int(limit)
    except ValueError:
        raise _no_limit(limit) from None
    if count < 0:
        raise _no_limit(limit)
    return count, None


def _is_async(function: Any) -> bool:
    # What it returns would be true always. Loaded here, since few conditions are declared.
    from batchwright.model.processor import ProcessorKind, processor_kind

    return processor_kind(function) is not ProcessorKind.FUNCTION


def _no_limit(limit: object) -> DeclarationError:
    return DeclarationError(
        "the limit on failures must be a count or a percentage", f"got {limit!r}", 'write 50 or "0.1%"'
    )


def _check_errors(policy: str, errors: Any) -> None:
    classes = errors if isinstance(errors, tuple) else (errors,)
    if not classes or not all(isinstance(error, type) and issubclass(error, BaseException) for error in classes):
        raise DeclarationError(
            f"{policy}: on must be an exception class or a tuple of them",
            f"got {errors!r}",
            f"write {policy}(on=ValueError)",
        )
