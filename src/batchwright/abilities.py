"""Optional abilities of readers, writers and sinks by which a restart checks its ground, or that `distinct` needs.

The one rule: an adapter that lacks one is complete without it; what it would have told is then not compared.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint


@runtime_checkable
class Fingerprints(Protocol):
    """A reader that sees, without reading, whether the input before a position is still what it was."""

    def fingerprint(self, position: Position) -> Any:
        """What is to be found before this position again, as the input is now; anything that the codec can store.

        Asked where a block did not say it (`Block.fingerprint`): the input may be read up to there.
        """
        ...

    def changes(self, position: Position, *, finished: bool) -> str:
        """What is different before this position, in words, from what `position.fingerprint` says; empty: nothing.

        With `finished` the position was the end of the input, and what has come behind it is a change as well; an input
        that is gone is none. Never raises: an input that cannot be looked at is left to `check` and `read`.
        """
        ...


@runtime_checkable
class Identifies(Protocol):
    """A reader that knows what makes an item the same one: a row's key, while other columns may change."""

    def identify(self, item: Any) -> Any:
        """What a later reading has to give at the same place; anything that the codec can store."""
        ...


@runtime_checkable
class Describes(Protocol):
    """A reader or writer with options that change what is read or written, beside its address."""

    @property
    def options(self) -> Mapping[str, str]:
        """Each by its name, in words that stay equal from run to run. Holds no secret."""
        ...


@runtime_checkable
class HasIdentity(Protocol):
    """A sink of a database that can be told from every other one, whatever its address is."""

    def identity(self) -> str:
        """An id that copies of the database share and no other has; empty if it has none yet."""
        ...


@runtime_checkable
class Looks(Protocol):
    """A sink whose `recall` puts its target in order first: it can say what that would find without touching it."""

    def look(self) -> Checkpoint | None:
        """What `recall` would give, or the error that it would raise. Locks and changes nothing."""
        ...


@runtime_checkable
class MissesTables(Protocol):
    """A sink that can see, after `recall`, that a table which it has committed rows to is gone."""

    def missing(self, outputs: int) -> Sequence[str]:
        """Those of the tables that unfinished work has put so many outputs into which are not there. Writes nothing.

        Of an atomic step they are the staging tables.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """A sink that keeps the keys which `distinct` has let pass, in step with the checkpoint: all of it or nothing."""

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys came with chunks committed before. Writes nothing."""
        ...

    def remember(self, digests: Sequence[bytes]) -> None:
        """Keep these keys with the chunk that is committed next; a rollback forgets them. None of them is known."""
        ...
