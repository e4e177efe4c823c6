"""Every error that batchwright raises. Each says what is wrong; what was found; what to do.

    BatchwrightError                    exit code 1
    ├── ConfigurationError              exit code 2: nothing was done; mend the call, the file or the set-up
    │   ├── DeclarationError            a Job, Step, Retry or Skip that cannot be meant
    │   ├── ParameterError              a job's parameters do not fit its function
    │   ├── OriginError                 a job's file or function cannot be found or loaded
    │   ├── SourceError                 an input is missing, not a file, not readable, or not as declared
    │   ├── TargetError                 a target is missing something, read-only, or not as declared
    │   ├── LedgerError                 the ledger cannot be opened, is too new, or is damaged
    │   ├── GroundChangedError          the input or the target is not the one this work was begun with
    │   ├── AbandonedError              this lap was abandoned
    │   ├── RolledBackError             this lap was rolled back
    │   ├── NotCompensableError         this run cannot be rolled back
    │   ├── ConfirmationError           the call would write rows a second time and needs a yes
    │   ├── FilterError                 a filter of failures that cannot be meant
    │   ├── NotReplayableError          these failures cannot be replayed
    │   └── NotResumableError           this work cannot be gone on with, or given up
    ├── AlreadyRunningError             exit code 4: another process owns this instance
    ├── FailureLimitError               more items failed than the limit allows
    ├── ReadError                       a reader stopped with an error
    │   └── SourceAwayError             a source cannot be read now, and may be later: it is waited for
    ├── MalformedRecordError            a record of an input could not be read
    ├── MissingKeyError                 an item lacks the key that distinct goes by
    ├── ItemChangedError                another item stands where one failed
    │   └── NotAcceptedError            and nobody has said yes to it
    ├── WriteError                      a target refused a chunk, or a disk is full
    ├── NotPublishedError               what an atomic step has staged may not, or cannot, become visible
    ├── FencedError                     another process has moved this step's checkpoint
    ├── DamagedOutputError              an output is not as it was left
    ├── CodecError                      a value cannot be stored or a stored text cannot be read
    ├── WorkerDiedError                 a worker process did not survive an item
    ├── NotSendableError                an item or a result cannot go to another process
    ├── CompensationFailedError         a rollback ended before everything was undone; carries the result
    └── JobFailedError                  a job ended FAILED; carries the result

`ItemsFailed` is no error of ours but a writer's answer: these outputs failed, the others are written.
`InWorkerError` stands for an error that could not come out of a worker process as itself, and for where it was raised.
`StopRequestedError` and `ChunkTimeoutError` end a wait inside the engine and never leave it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from batchwright.model.status import Status

if TYPE_CHECKING:
    from batchwright.model.result import JobResult, RollbackResult


class BatchwrightError(Exception):
    """The root of every error raised by batchwright: what is wrong; what was found; what to do."""

    exit_code: int = 1

    def __init__(self, wrong: str, found: str = "", mend: str = "") -> None:
        """Join the three parts that are not empty."""
        self.wrong: str = wrong
        self.found: str = found
        self.mend: str = mend
        super().__init__("; ".join(part for part in (wrong, found, mend) if part))


class ConfigurationError(BatchwrightError):
    """Wrong use or configuration: nothing was done."""

    exit_code = 2


class DeclarationError(ConfigurationError):
    """A Job, Step, Retry or Skip that cannot be meant; raised when it is built."""


class ParameterError(ConfigurationError):
    """A job's parameters do not fit its function, or cannot be stored."""


class OriginError(ConfigurationError):
    """A job's file or function cannot be found or loaded."""


class SourceError(ConfigurationError):
    """An input is missing, not a file, not readable, or not as declared."""


class TargetError(ConfigurationError):
    """A target is missing something, read-only, or not as declared."""


class LedgerError(ConfigurationError):
    """The ledger cannot be opened, is too new, or is damaged."""


BEGIN_AGAIN = "begin again with --again (run(…, again=True) in Python)"
ACCEPT_INPUT = "go on all the same with --accept-input (accept_input=True)"
LEAVE_FINISHED = "leave it finished as it is with --accept-input (accept_input=True)"
ADOPT = "take what is there with --adopt (adopt=True)"


class GroundChangedError(ConfigurationError):
    """The input, the declaration or the target is not the one this work was begun with."""


def not_repeatable(address: str, ordinal: int) -> GroundChangedError:
    """A reader gives another item than it did; `ordinal` items stand before it."""
    return GroundChangedError(
        f"{address} is not repeatable, or its input has changed",
        f"item {ordinal + 1:,} is not the one that was read before",
        f"put the input back as it was, {ACCEPT_INPUT}, or {BEGIN_AGAIN}",
    )


class AbandonedError(ConfigurationError):
    """This lap was abandoned and cannot be gone on with."""


class RolledBackError(ConfigurationError):
    """This lap was rolled back, wholly or partly, and cannot be gone on with."""


class NotCompensableError(ConfigurationError):
    """This run cannot be rolled back."""


class ConfirmationError(ConfigurationError):
    """The call would write rows a second time and needs a yes."""


class FilterError(ConfigurationError):
    """A filter of failures that cannot be meant."""


class NotReplayableError(ConfigurationError):
    """These failures cannot be replayed into their target."""


class NotResumableError(ConfigurationError):
    """This work cannot be gone on with, or given up."""


class AlreadyRunningError(BatchwrightError):
    """Another process owns this instance."""

    exit_code = 4

    def __init__(self, job: str, where: str, since: datetime | None) -> None:
        """Say where it runs and since when."""
        self.job: str = job
        self.where: str = where
        self.since: datetime | None = since
        started = "" if since is None else f" since {since:%Y-%m-%d %H:%M:%S} UTC"
        super().__init__(
            f"job '{job}' is already running with these parameters",
            f"{where}{started}",
            "wait for it to end, or stop it there",
        )


class FailureLimitError(BatchwrightError):
    """More items failed than the limit allows; the chunk that passed the limit was not committed."""

    def __init__(self, step: str, failed: int, read: int, limit: int | str | None, causes: Sequence[str] = ()) -> None:
        """Give the counts, the limit, and why items of that chunk failed, in words."""
        self.step: str = step
        self.failed: int = failed
        self.read: int = read
        self.limit: int | str | None = limit
        self.causes: tuple[str, ...] = tuple(causes)
        why = f"; not committed: {', '.join(causes)}" if causes else ""
        super().__init__(
            f"step '{step}': more items failed than the limit allows",
            f"{failed:,} of {read:,} items failed, the limit is {limit}{why}",
            "mend the input or the code, or raise the limit with --max-failures",
        )


class ReadError(BatchwrightError):
    """A reader stopped with an error; everything it gave before is committed."""


class SourceAwayError(ReadError):
    """A source cannot be read now and may be later: a server that is away. The step waits for it as for a target."""


class MalformedRecordError(BatchwrightError, ValueError):
    """A record of an input that could not be read; a ValueError too, so that `Skip(on=ValueError)` takes it."""


class MissingKeyError(BatchwrightError, ValueError):
    """An item lacks the key that `distinct` goes by; a ValueError too, so that `Skip(on=ValueError)` takes it."""


class ItemChangedError(BatchwrightError):
    """Where an item failed another one stands now, or it cannot be told whether it is the same."""


class NotAcceptedError(ItemChangedError):
    """Another item stands where one failed, and nobody has said yes to it."""


class WriteError(BatchwrightError):
    """A target refused a chunk, or its disk is full; the chunk is not written."""


class NotPublishedError(BatchwrightError):
    """What an atomic step has staged may not, or cannot, become visible; nothing of it does, and it stays staged."""


class FencedError(BatchwrightError):
    """Another process has moved this step's checkpoint; nothing more is written here."""


class DamagedOutputError(BatchwrightError):
    """An output is not as it was left: shorter, changed by somebody else, or gone."""


class CodecError(BatchwrightError):
    """A value cannot be stored, or a stored text cannot be read."""


class WorkerDiedError(BatchwrightError):
    """A worker process did not survive an item, or could not be started; `code` is its exit code, -9 for signal 9."""

    def __init__(self, step: str, code: int, found: str, mend: str) -> None:
        """Say how it ended in words."""
        self.step: str = step
        self.code: int = code
        super().__init__(f"step '{step}': a worker process died", found, mend)

    def __reduce__(self) -> tuple[type["WorkerDiedError"], tuple[str, int, str, str]]:
        """Can be sent to another process."""
        return WorkerDiedError, (self.step, self.code, self.found, self.mend)


class NotSendableError(BatchwrightError, TypeError):
    """An item or a result cannot go to another process; a TypeError too, so that `Skip(on=TypeError)` takes it."""

    def __init__(self, what: str, kind: type, why: str) -> None:
        """Name its type."""
        self._given = (what, kind, why)
        super().__init__(
            f"{what} of type {kind.__qualname__} cannot go to another process",
            why,
            "let it be made of plain values, such as a dict, or work on threads",
        )

    def __reduce__(self) -> tuple[type["NotSendableError"], tuple[str, type, str]]:
        """Can be sent to another process, if its type can."""
        return NotSendableError, self._given


class CompensationFailedError(BatchwrightError):
    """A rollback ended before everything was undone. `result` says what is left."""

    def __init__(self, result: "RollbackResult") -> None:
        """Name the run, the cause, and what is left."""
        self.result: RollbackResult = result
        left = ", ".join(f"{step.left:,} of step '{step.step}'" for step in result.steps if step.left)
        super().__init__(
            f"run {result.run} of job '{result.job}' is rolled back in part",
            f"{result.error}; effects left: {left or 'none'}",
            f"mend it and roll back run {result.run} again: it goes on there",
        )


class JobFailedError(BatchwrightError):
    """A job ended FAILED. `result` holds counts and failures; the cause is the error that stopped it."""

    def __init__(self, result: "JobResult", error: BaseException | None = None) -> None:
        """Name the job, the step and the cause."""
        self.result: JobResult = result
        step = next((step.name for step in result.steps if step.error), None)
        where = f"step '{step}' of job '{result.job}'" if step else f"job '{result.job}'"
        code: int = getattr(error, "exit_code", 1)
        # 2 is the word of a refusal: nothing was done. This run is recorded, and may have committed much.
        self.exit_code: int = 1 if code == ConfigurationError.exit_code else code
        # The cause's own text may begin with its step and end with what to do: neither is said twice.
        cause = result.error.removeprefix(f"step '{step}': ")
        mend = "then run" if getattr(error, "mend", "") else "mend it and run"
        after = f"{mend} it again: run {result.run} goes on"
        unpublished = next((step.unpublished for step in result.steps if step.error), "")
        after = f"{unpublished}; {after}" if unpublished else after
        if result.status is Status.COMPENSATED:
            after = "what it did outside is undone; to begin anew: --again (run(…, again=True) in Python)"
        elif result.status is Status.COMPENSATION_FAILED:
            after = f"it is rolled back in part; go on with that: batchwright rollback {result.run}"
        super().__init__(f"{where} failed", cause, after)


class ItemsFailed(Exception):  # noqa: N818 - an answer, not an error: the name is part of the public contract
    """Raised by a writer: the outputs at these indexes failed, all others are written."""

    def __init__(self, errors: Mapping[int, BaseException], *, attempted: int | None = None) -> None:
        """`errors` maps the index of each output that failed, in the list given to the writer, to its error.

        A writer that stopped early says how many outputs it `attempted`; those behind are not written.
        """
        self.errors: dict[int, BaseException] = {
            index: error if isinstance(error, BaseException) else ValueError(str(error))
            for index, error in errors.items()
        }
        self.attempted = attempted
        super().__init__(f"{len(self.errors)} outputs failed")


class InWorkerError(Exception):
    """An error in a worker process that could not come here as itself: its class's name and text, or where it was."""


class StopRequestedError(Exception):
    """A stop was requested during a wait; never leaves the engine."""


class ChunkTimeoutError(Exception):
    """The time of the chunk in work is over; never leaves the engine."""
