"""The ports of runners: what is to be done, who does it, and where.

The one rule: a runner never says what happens to an item; that is the task's affair.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from batchwright.model.work import Attempted, Death, Outcome, Work


class Task(Protocol):
    """What is to be done with the items of a step, wherever that is: retries and failures are its affair.

    It can be pickled, for a process on the same machine.
    """

    def run(self, work: Work) -> Outcome:
        """Process the items one after the other. Never raises: what goes wrong as a whole is `Outcome.broken`."""
        ...

    async def run_item(self, item: Any) -> Attempted:
        """The same for one item of an async function. Never raises but what cancels it."""
        ...

    def skips(self, error: BaseException) -> bool:
        """Whether an item that failed for good with this error is set aside, instead of ending the step."""
        ...

    def wait_before(self, error: BaseException, attempts: int) -> float | None:
        """How long to wait before an item whose call was ended from outside is tried again; None: it has failed."""
        ...

    def note_death(self, work: Work, index: int, death: Death) -> None:
        """Keep, durably, that a worker died of this item of a work, before it is tried again or has failed.

        Raises what the ledger raises.
        """
        ...

    @property
    def step(self) -> str:
        """The name of the step, for messages."""
        ...

    @property
    def item_timeout_seconds(self) -> float | None:
        """How long one item may take, where that can be enforced."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested: begin nothing more."""
        ...

    def stop_soon(self) -> None:
        """Request a stop, in the process in which the task is."""
        ...


class Workers(Protocol):
    """Workers of one step, at work until they are closed. Used by one thread."""

    def submit(self, work: Work) -> None:
        """Give them something to do. Does not wait.

        Items among `work.deaths` are given alone, and have failed without a call if their attempts are used up. A
        runner whose workers cannot die may take no notice.
        """
        ...

    def collect(self, timeout_seconds: float) -> Outcome | None:
        """The outcome of something that is done, in any order, each once; None if nothing was done in this time."""
        ...

    def cancel(self) -> None:
        """Begin nothing any more; outcomes may be missing from now on."""
        ...

    def close(self) -> None:
        """End all of them, and leave nothing at work. After an error too, and more than once."""
        ...


@runtime_checkable
class Runner(Protocol):
    """Decides where and how many items are worked on at once, never what happens to them."""

    @property
    def workers(self) -> int:
        """How many pieces of work, or with `together` how many items, are in work at once."""
        ...

    @property
    def together(self) -> bool:
        """Whether the items of one piece of work are in work at the same time."""
        ...

    def start(self, task: Task) -> Workers:
        """Workers for one step."""
        ...


@runtime_checkable
class Apart(Protocol):
    """A runner in other processes: the step's function has to be found there, and the call of an item can be ended."""

    @property
    def apart(self) -> bool:
        """Whether it is one."""
        ...


@runtime_checkable
class TakesPartitions(Protocol):
    """A runner in other processes, which can be given whole partitions: to read, process, write and commit."""

    def for_partitions(self) -> Runner:
        """As many processes, in which nothing is bounded."""
        ...

    def for_one(self) -> Runner:
        """One process, bounded as each of these is."""
        ...

    @property
    def bounds_items(self) -> bool:
        """Whether something is bounded for the step's function alone, such as its memory."""
        ...


@runtime_checkable
class Tells(Protocol):
    """A task that tells the run of what it does, while it does it."""

    def tell_by(self, send: Callable[[Any], None]) -> None:
        """Where the work is done: how to tell. Called once, before anything is run."""
        ...

    def hear(self, told: Any) -> None:
        """Where the run is: what was told, in order; what a process tells before it dies may be lost."""
        ...


def is_apart(runner: object) -> bool:
    """Whether this runner works in other processes."""
    return isinstance(runner, Apart) and runner.apart
