"""Events as lines of the standard library's logging.

The one rule: a run's log stays short. Starts and ends are INFO, failures are warnings at a bounded rate, chunks DEBUG.
"""

import logging
import time
from collections.abc import Callable
from functools import singledispatchmethod

from batchwright.model.events import (
    ChunkCommitted,
    Event,
    ItemFailed,
    JobFinished,
    JobStarted,
    StepFinished,
    StepStarted,
)
from batchwright.model.status import Status
from batchwright.observers.plain_text import balance, duration, printable, status_words
from batchwright.ports import Observer

WARNINGS_A_MINUTE = 20


def log_events(
    logger: logging.Logger | None = None,
    *,
    warnings_a_minute: int = WARNINGS_A_MINUTE,
    monotonic: Callable[[], float] = time.monotonic,
) -> Observer:
    """An observer that logs what happens, by default to the logger `batchwright`.

    Failures past `warnings_a_minute` are counted and reported together; none is lost, all are in the ledger.
    """
    return _EventLog(logger or logging.getLogger("batchwright"), _Allowance(warnings_a_minute, monotonic)).log


class _EventLog:
    """Writes one line per event worth a line."""

    def __init__(self, logger: logging.Logger, allowance: "_Allowance") -> None:
        self._logger, self._allowance = logger, allowance

    @singledispatchmethod
    def log(self, event: Event) -> None:
        """Events that are not known here are no lines."""

    @log.register
    def _(self, event: JobStarted) -> None:
        word = "goes on" if event.resumed else "started"
        self._logger.info(
            "run %d: job '%s' %s (lap %d), ledger %s",
            event.run,
            printable(event.job),
            word,
            event.lap,
            printable(event.ledger),
        )

    @log.register
    def _(self, event: StepStarted) -> None:
        begun = f" from item {event.counts.read:,} on" if event.counts.read else ""
        self._logger.info("run %d: step '%s' started%s", event.run, printable(event.step), begun)

    @log.register
    def _(self, event: ChunkCommitted) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug("run %d: step '%s': %s", event.run, printable(event.step), balance(event.counts))

    @log.register
    def _(self, event: ItemFailed) -> None:
        if not self._allowance.take():
            return
        failure = event.failure
        self._logger.warning(
            "run %d: step '%s': item %d (%s) failed to %s: %s: %s",
            event.run,
            printable(failure.step),
            failure.ordinal,
            printable(failure.place),
            failure.phase.value,
            printable(failure.error_type),
            printable(failure.error),
        )

    @log.register
    def _(self, event: StepFinished) -> None:
        self._report_held_back(event.run)
        self._logger.log(
            _level(event.status),
            "run %d: step '%s' %s in %s: %s%s",
            event.run,
            printable(event.step),
            status_words(event.status),
            duration(event.seconds),
            balance(event.counts),
            _cause(event.error),
        )

    @log.register
    def _(self, event: JobFinished) -> None:
        self._report_held_back(event.run)
        result = event.result
        self._logger.log(
            _level(result.status),
            "run %d: job '%s' %s in %s: %s%s",
            event.run,
            printable(result.job),
            status_words(result.status),
            duration(result.seconds),
            balance(result.counts),
            _cause(result.error),
        )

    def _report_held_back(self, run: int) -> None:
        held_back = self._allowance.forgive()
        if held_back:
            self._logger.warning("run %d: %d more items failed; all of them are in the ledger", run, held_back)


def _level(status: Status) -> int:
    if status is Status.COMPLETED:
        return logging.INFO
    return logging.ERROR if status is Status.FAILED else logging.WARNING


def _cause(error: str) -> str:
    return f"; {printable(error)}" if error else ""


class _Allowance:
    """So many a minute; the rest is counted."""

    def __init__(self, a_minute: int, monotonic: Callable[[], float]) -> None:
        self._a_minute, self._monotonic = a_minute, monotonic
        self._minute, self._taken, self._held_back = -1, 0, 0

    def take(self) -> bool:
        minute = int(self._monotonic() // 60)
        if minute != self._minute:
            self._minute, self._taken = minute, 0
        allowed = self._taken < self._a_minute
        self._taken += allowed
        self._held_back += not allowed
        return allowed

    def forgive(self) -> int:
        held_back, self._held_back = self._held_back, 0
        return held_back
