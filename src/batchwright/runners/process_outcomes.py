"""Outcomes on their way between processes: what cannot be pickled is told in words.

The one rule: one item's result or error never costs its neighbours theirs. An error that does not come through whole
keeps its class's name and its text, whatever its methods do.
"""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from batchwright.model.errors import BatchwrightError, InWorkerError, NotSendableError
from batchwright.model.failure import Phase
from batchwright.model.work import Outcome, SetAside, Work
from batchwright.ports.runners import Task
from batchwright.runners.process_messages import pack, unpack

MAX_TEXT_CHARACTERS = 4_000

MAX_ERROR_BYTES = 256 * 1024
"""An error that is larger is told in words."""


@dataclass(frozen=True, slots=True)
class PackedFault:
    """An error as a pickle, if that gives it back; its class's name, text, and traceback if it ends the step."""

    pickled: bytes | None
    name: str
    text: str
    trace: str = ""


def pack_outcome(outcome: Outcome, work: Work, task: Task) -> bytes:
    """The outcome as a message. A result that cannot be pickled is its item's failure."""
    try:
        results = pack(list(outcome.results))
    except Exception:  # noqa: BLE001 - anything can be wrong with a user's object
        outcome = _without_unsendable(outcome, work, task)
        results = pack(list(outcome.results))
    failed = {index: (pack_error(why.error), why.attempts) for index, why in outcome.failed.items()}
    ended_by, broken = (None if error is None else pack_error(error, trace=True) for error in _errors(outcome))
    return pack((outcome.number, results, failed, outcome.retried, ended_by, broken, outcome.seconds))


def unpack_outcome(message: bytes) -> Outcome:
    """The outcome of a message."""
    number, results, failed, retried, ended_by, broken, seconds = unpack(message)
    return Outcome(
        number,
        unpack(results),
        _set_aside(failed),
        retried,
        None if ended_by is None else unpack_error(ended_by),
        None if broken is None else unpack_error(broken),
        seconds,
    )


def pack_error(error: BaseException, *, trace: bool = False) -> PackedFault:
    """The error as far as it can be told elsewhere. Never raises."""
    kind = type(error)
    pickled: bytes | None
    try:
        pickled = pack(error)
        if len(pickled) > MAX_ERROR_BYTES or type(unpack(pickled)) is not kind:
            pickled = None
    except BaseException:  # noqa: BLE001 - whatever a user's __reduce__ and __init__ do
        pickled = None
    return PackedFault(pickled, kind.__qualname__, _text(error), _trace(error) if trace else "")


def unpack_error(packed: PackedFault) -> BaseException:
    """The error itself, or one that has its class's name and its text."""
    error: BaseException | None = None
    try:
        found = None if packed.pickled is None else unpack(packed.pickled)
        error = found if isinstance(found, BaseException) else None
    except BaseException:  # noqa: BLE001 - it could be made again there, and cannot here
        error = None
    if error is None:
        kind = type(packed.name, (InWorkerError,), {"__qualname__": packed.name})
        error = kind(packed.text)
    if packed.trace and error.__cause__ is None and not isinstance(error, BatchwrightError):
        error.__cause__ = InWorkerError(packed.trace)
    return error


def _errors(outcome: Outcome) -> tuple[BaseException | None, BaseException | None]:
    return outcome.ended_by, outcome.broken


def _set_aside(failed: Mapping[int, tuple[PackedFault, int]]) -> dict[int, SetAside]:
    return {
        index: SetAside(unpack_error(packed), Phase.PROCESS, attempts) for index, (packed, attempts) in failed.items()
    }


def _without_unsendable(outcome: Outcome, work: Work, task: Task) -> Outcome:
    """The outcome up to the first result that cannot be sent and is not skipped; those that are skipped set aside."""
    results: list[Any] = []
    failed = {}
    places = [index for index in range(len(work.items)) if index not in outcome.failed]
    for index, result in zip(places, outcome.results, strict=False):
        wrong = _why_unsendable(result)
        if wrong is None:
            results.append(result)
        elif task.skips(wrong):
            failed[index] = SetAside(wrong, Phase.PROCESS)
        else:
            failed.update({known: why for known, why in outcome.failed.items() if known < index})
            return replace(outcome, results=results, failed=failed, ended_by=wrong)
    return replace(outcome, results=results, failed={**outcome.failed, **failed})


def _why_unsendable(result: Any) -> NotSendableError | None:
    try:
        pack(result)
    except Exception as error:  # noqa: BLE001 - see above
        return NotSendableError("the result", type(result), _text(error))
    return None


def _text(error: BaseException) -> str:
    try:
        return str(error)[:MAX_TEXT_CHARACTERS]
    except BaseException:  # noqa: BLE001 - whatever a user's __str__ does
        return "(its message cannot be shown)"


def _trace(error: BaseException) -> str:
    try:
        return "in a worker process:\n" + "".join(traceback.format_tb(error.__traceback__))[-MAX_TEXT_CHARACTERS:]
    except BaseException:  # noqa: BLE001 - a traceback is a help, never a reason to fail
        return ""
