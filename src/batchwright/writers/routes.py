"""Several tables of one database as the target of one step: each output goes to the one that it is for.

The one rule: all of them share a transaction, and the checkpoint in it. A chunk is in every table, or in none; an
output that one table refuses takes its item's outputs out of all of them.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from batchwright.model.errors import DeclarationError
from batchwright.model.guarantee import Guarantee
from batchwright.model.processor import function_address
from batchwright.model.publication import Publication
from batchwright.ports import Checks, Publishes, Scope, Sink, Writer
from batchwright.writers.one_transaction import OneTransactionSink

Output = Any


def route(writers: Mapping[Any, Writer[Any]], *, by: Callable[[Any], Hashable] | None = None) -> Writer[Output]:
    """Write each output to one of several tables of one database. Exactly once; a chunk is one transaction over all.

    `writers` maps names or classes to `insert`, `upsert` or `execute`. Outputs are pairs `(name, row)`; with classes as
    keys they are instances of these; or `by` says of an output which key it is for, and the output is the row. The
    tables of a chunk are written in the order of `writers`: name first what others refer to. An output for which there
    is no writer is a failure of its item.

    Raises DeclarationError for writers of several databases, of files, and for functions: they share no transaction.
    """
    if not isinstance(writers, Mapping) or not writers:
        raise DeclarationError(
            "route: writers must map names to writers", f"got {writers!r}", 'write {"orders": insert(DB, "orders"), …}'
        )
    if by is not None and not callable(by):
        raise DeclarationError("route: by must be a function", f"got {by!r}", "write by=type, or leave it out")
    classes = all(isinstance(key, type) for key in writers)
    if not classes and not all(isinstance(key, str) for key in writers):
        raise DeclarationError("route: all keys must be names, or all classes", f"got {list(writers)!r}")
    names = {key: key.__qualname__ if isinstance(key, type) else key for key in writers}
    _check_one_database(list(writers.values()))
    places = [writer.address for writer in writers.values()]
    if len(set(names.values())) < len(names) or len(set(places)) < len(places):
        raise DeclarationError(
            "route: two keys stand for the same", ", ".join(places), "let by= return one key for both"
        )
    return RoutedWriter(names, tuple(writers.values()), by or (type if classes else None))


@dataclass(frozen=True, eq=False)
class RoutedWriter:
    """Tables of one database; `names` has the word for each key, in the order of `writers`."""

    names: Mapping[Any, str]
    writers: tuple[Any, ...]
    by: Callable[[Any], Hashable] | None
    publication: Publication | None = None
    guarantee: Guarantee = field(default=Guarantee.EXACTLY_ONCE, init=False)

    @property
    def address(self) -> str:
        """The database's address and all tables."""
        first, *others = self.writers
        database = first.address.removesuffix(place_of(first))
        return f"{database}{', '.join(map(place_of, (first, *others)))}"

    @property
    def adds_again(self) -> bool:
        """Whether a second time through would have rows twice in one of the tables."""
        return any(writer.adds_again for writer in self.writers)

    @property
    def options(self) -> Mapping[str, str]:
        """How each table is written, and by what outputs are told apart."""
        told = {
            f"{name}: {word}": text
            for name, writer in zip(self.names.values(), self.writers, strict=True)
            for word, text in writer.options.items()
        }
        return {"by": "pairs" if self.by is None else function_address(self.by), **told}

    def check(self) -> None:
        """Raise TargetError if the database cannot be written to. Writes nothing."""
        if isinstance(self.writers[0], Checks):
            self.writers[0].check()

    def open(self, scope: Scope) -> Sink[Output]:
        """A sink with one connection for all tables."""
        sink = _sink_of(self.writers[0])(self, scope)
        one = self.publication if self.publication and self.publication.one_transaction else None
        return sink if one is None else OneTransactionSink(sink, scope, one)

    def publishing(self, publication: Publication) -> Writer[Output]:
        """The same tables, filled all at once. A statement among them is refused: what it does cannot be staged."""
        # What is asked before publishing is asked once, of all tables together.
        each = replace(publication, publish_if=None)
        writers = tuple(writer.publishing(each) if isinstance(writer, Publishes) else writer for writer in self.writers)
        return replace(self, writers=writers, publication=publication)


def place_of(writer: Any) -> str:
    """The table or statement of a writer, as its address has it."""
    return str(writer.table.name) if writer.table else " ".join(writer.sql.split())


def _check_one_database(writers: Sequence[Any]) -> None:
    from batchwright.writers.postgres import PostgresWriter
    from batchwright.writers.sqlite import SqlWriter

    for writer in writers:
        if not isinstance(writer, (SqlWriter, PostgresWriter)):
            raise DeclarationError(
                "route: every writer must be insert, upsert or execute: only tables share a transaction",
                f"got {writer.address if isinstance(writer, Writer) else writer!r}",
                "let another step, after this one, write files or call functions",
            )
    databases = {writer.address.removesuffix(place_of(writer)) for writer in writers}
    if len(databases) > 1:
        raise DeclarationError(
            "route: all writers must write to one database: a transaction does not span two",
            f"got {' and '.join(sorted(map(str.strip, databases)))}",
            "give each database a step of its own",
        )


def _sink_of(writer: Any) -> Callable[[RoutedWriter, Scope], Any]:
    from batchwright.writers.sqlite import SqlWriter

    if isinstance(writer, SqlWriter):
        from batchwright.writers.sqlite_routes import SqlRoutesSink

        return SqlRoutesSink
    from batchwright.writers.postgres_routes import PostgresRoutesSink

    return PostgresRoutesSink
