"""DROP, the processor's word for "this item has no output", and the marks for parameters."""

from enum import Enum
from typing import Final


class Drop(Enum):
    """The type of `DROP`, for annotations: `def process(row: Row) -> Sale | Drop`."""

    DROP = "DROP"

    def __repr__(self) -> str:
        """As it is written."""
        return "DROP"


DROP: Final = Drop.DROP
"""Returned by a processor: this item is filtered out. `None` is an ordinary value."""


class Secret:
    """Marks a parameter whose value is never stored, never identifying and never shown: `Annotated[str, Secret]`."""


class NonIdentifying:
    """Marks a parameter that does not say which work it is: `Annotated[int, NonIdentifying]`."""
