"""Blocks that come from a database, whose statement another thread may end.

The one rule: what reads is a generator of its own; this only knows which connection it has opened.
"""

from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

from batchwright.model.block import Block

Item = TypeVar("Item")
Connection = TypeVar("Connection")


class InterruptibleBlocks(Generic[Item, Connection]):
    """An iterator of blocks. `read` is given a function to call with each connection that it has opened."""

    def __init__(
        self,
        read: Callable[[Callable[[Connection], None]], Generator[Block[Item], None, None]],
        end_statement: Callable[[Connection], None],
    ) -> None:
        """Open nothing yet. `end_statement` is called from other threads and must not raise."""
        self._connections: list[Connection] = []
        self._end_statement = end_statement
        self._blocks = read(self._connections.append)

    def __iter__(self) -> Iterator[Block[Item]]:
        return self

    def __next__(self) -> Block[Item]:
        return next(self._blocks)

    def close(self) -> None:
        """Let the database go."""
        self._blocks.close()

    def interrupt(self, *, now: bool) -> None:  # noqa: ARG002 - the port gives it; reading loses nothing either way
        """End the statement that is running."""
        for connection in tuple(self._connections):
            self._end_statement(connection)
