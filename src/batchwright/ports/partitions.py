"""The ports of steps in partitions: an input that can be split, a target and a ledger that take several at once.

The one rule: a plan is made once and stored; whoever reads it again gets the same partitions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.failure import Failure
from batchwright.ports import Ownership, Reader


@runtime_checkable
class Splits(Protocol):
    """A reader whose input can be read in parts."""

    @property
    def undivided(self) -> str:
        """Why this one cannot be split after all, with the mend; empty: it can."""
        ...

    def split(self, most: int) -> Sequence[Any]:
        """At most so many parts, in order: together they are the input, each record in one of them.

        Each is anything that the codec can store. The same input gives the same parts. May read the input once.
        """
        ...

    def part(self, spec: Any) -> Reader[Any]:
        """A reader of one part. Its address is that of the whole, and so are the places that it names.

        Its `changes`, if it has that, compares all of the part with what it was when it was split, read or not.
        """
        ...


@runtime_checkable
class Commutes(Protocol):
    """A writer that knows whether what it leaves behind depends on the order of the outputs."""

    @property
    def order_matters(self) -> tuple[str, ...]:
        """Why the order matters, and the mend; empty: in any order the target ends up the same."""
        ...


class PartitionRows(Protocol):
    """What a target knows of all partitions of a step."""

    def checkpoints(self) -> Mapping[int, Checkpoint]:
        """The checkpoint of each partition that has one."""
        ...

    def elsewhere(self, *, exactly: bool) -> Counts:
        """The counts of all partitions but the sink's own, added up.

        With `exactly` nobody else who asks so commits before the sink's transaction has ended.
        """
        ...

    def failures(self) -> Iterator[Failure]:
        """The failures of all partitions, by partition and ordinal."""
        ...


@runtime_checkable
class HasPartitions(Protocol):
    """A sink of a target that keeps the checkpoints of partitions side by side. Those of tables are such sinks.

    It keeps the state of a checkpoint that has a plan in it (`model.partition`) as it is.
    """

    def partitions(self, *, writing: bool = False) -> PartitionRows:
        """All partitions of its step; with `writing` asked in the transaction of the chunk."""
        ...


@runtime_checkable
class OwnsPartitions(Protocol):
    """A ledger in which partitions are owned one by one, by threads, processes and hosts."""

    def own_partition(self, key: StepKey) -> AbstractContextManager[Ownership]:
        """Own this partition while the context lasts. Raises AlreadyRunningError at once."""
        ...


@runtime_checkable
class OpensAgain(Protocol):
    """A durable ledger that several threads may use, each an object of its own."""

    def another(self) -> Any:
        """The same ledger, opened once more."""
        ...
