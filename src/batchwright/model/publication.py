"""How the outputs of an atomic step become visible: all of them at once, or none.

The one rule: what `publish_if` looks at is what will be there, inside the transaction that publishes it; nothing that
it does there stays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from batchwright.model.checkpoint import Counts
from batchwright.model.errors import DeclarationError

Atomic = bool | Literal["transaction"]
"""False: chunk by chunk. True: staged, and published at the end. "transaction": the step is one transaction."""

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Unpublished:
    """What `publish_if` is given: the step's counts, and a way to look into the database before anybody else can.

    `query` sees the target with the step's rows in it. `staged` is the name, ready for SQL, of the table that holds
    these rows alone; it is empty if there are none, and with `atomic="transaction"`.
    """

    counts: Counts
    staged: str
    ask: Callable[[str, Any], Rows] = field(repr=False)

    def query(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Rows:
        """All rows of a SELECT, as tuples. Anything else than a SELECT is refused by the database."""
        return self.ask(sql, parameters)


@dataclass(frozen=True, slots=True)
class Publication:
    """What a step asks of a writer that is to publish everything at once.

    `shows_rows` allows error texts to quote a row: a step that keeps no payloads, or parts of them only, does not.
    """

    step: str
    one_transaction: bool = False
    publish_if: Callable[[Unpublished], object] | None = None
    shows_rows: bool = True


def check_atomic(step: str, given: object) -> None:
    """Raise DeclarationError for a value of `atomic` that is none."""
    if not isinstance(given, bool) and given != "transaction":
        raise DeclarationError(f"step '{step}': atomic must be True, False or 'transaction'", f"got {given!r}")
