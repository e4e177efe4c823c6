"""The port of sinks into whose open transaction the body of a loop writes by itself.

The one rule: what a body has written cannot be written again by us; where it is lost, it is not committed either.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

Patiently = Callable[[Callable[[], Any]], Any]
"""Asks a question of a target again and again, while only passing errors answer."""


@runtime_checkable
class ServesBodies(Protocol):
    """A sink that lends its connection, item by item.

    The life of an item: `enter_item`, then `keep_item` or `undo_item`. Between two items nothing is lent.
    """

    @property
    def connection(self) -> Any:
        """What the body writes with. Raises DeclarationError where there is no database."""
        ...

    @property
    def ended_by(self) -> BaseException | None:
        """What the loop cannot go on after, whatever the body has made of it: a lost transaction, a wrong use."""
        ...

    @property
    def whole(self) -> bool:
        """Whether everything that items have written since the last commit is still there, to be committed."""
        ...

    def serve(self, patiently: Patiently) -> None:
        """Begin transactions by this from now on."""
        ...

    def enter_item(self) -> None:
        """Lend the connection."""
        ...

    def keep_item(self) -> bool:
        """Take it back and keep what was written; whether anything was, as far as can be seen."""
        ...

    def undo_item(self) -> None:
        """Take it back and undo what was written. Never raises: what cannot be undone is not whole any more."""
        ...

    def passes(self, error: BaseException) -> bool:
        """Whether the error of a statement is no fault of the item: a lock, a deadlock, a lost connection."""
        ...
