"""The tables that one open step writes to, whatever the database: which row goes where, and what is known of each.

The one rule: nothing here begins, commits or undoes. See `routes`.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Protocol

from batchwright.model.checkpoint import Checkpoint, StepKey
from batchwright.model.errors import ItemsFailed
from batchwright.model.partition import plan_of
from batchwright.model.publication import Publication
from batchwright.ports import Scope
from batchwright.writers.rows import no_row
from batchwright.writers.staging_tables import STAGE, require_same_way
from batchwright.writers.text_files import one_by_one


class Routing(Protocol):
    """What is declared: the name of each key, the writers in the same order, what tells outputs apart."""

    @property
    def names(self) -> Mapping[Any, str]:
        """The name of each key."""
        ...

    @property
    def writers(self) -> tuple[Any, ...]:
        """The writers, of one database."""
        ...

    @property
    def by(self) -> Callable[[Any], Hashable] | None:
        """The key that an output is for; None: outputs are pairs."""
        ...

    @property
    def publication(self) -> Publication | None:
        """How everything is published at once, if it is."""
        ...


class TableSink(Protocol):
    """What writes the rows of one table into the transaction of another sink."""

    def write(self, outputs: Sequence[Any]) -> None:
        """Write rows. Raises ItemsFailed for those that are refused."""
        ...

    def forget(self) -> None:
        """The transaction was undone, and with it the table, if it was created there."""
        ...

    def end_transaction(self) -> None:
        """The transaction was committed."""
        ...

    def settled(self) -> tuple[Sequence[str], str | None]:
        """The table's columns, and the name of its staging table, to be kept with the checkpoint."""
        ...

    def restore(self, columns: Sequence[str], stage: str | None) -> None:
        """Take both from a checkpoint."""
        ...

    def publish(self, connection: Any, checkpoint: Checkpoint) -> None:
        """Move what is staged into the table, in the open transaction."""
        ...

    def drop(self, connection: Any) -> str | None:
        """Drop the staging table, in the open transaction; its name, if there may have been one."""
        ...


class Tables:
    """The tables of one open step. `opened` makes what writes one of them, given its writer and a scope of its own."""

    def __init__(self, writer: Routing, scope: Scope, opened: Callable[[Any, Scope], TableSink]) -> None:
        """Open nothing yet."""
        self._key = scope.key
        self._claims = scope.claims
        self._names = writer.names
        self._by = writer.by
        publication = writer.publication
        self.staged: bool = publication is not None and not publication.one_transaction
        self._sinks = {
            name: opened(each, replace(scope, key=_key_for(scope.key, name)))
            for name, each in zip(writer.names.values(), writer.writers, strict=True)
        }
        self._tables: dict[str, str] = {
            name: each.table.name
            for name, each in zip(writer.names.values(), writer.writers, strict=True)
            if each.table is not None
        }
        self._outputs: dict[str, int] = dict.fromkeys(self._sinks, 0)
        self._added: dict[str, int] = {}

    def write(self, outputs: Sequence[Any]) -> None:
        """Write each output to its table. Raises ItemsFailed for those refused; all others are written."""
        chosen: dict[str, list[tuple[int, Any]]] = {name: [] for name in self._sinks}

        def choose(index: int) -> None:
            name, row = self._routed(outputs[index])
            chosen[name].append((index, row))

        _, errors = one_by_one(range(len(outputs)), choose)
        for name, pairs in chosen.items():
            refused: Mapping[int, BaseException] = {}
            if pairs:
                try:
                    self._sinks[name].write(list(map(itemgetter(1), pairs)))
                except ItemsFailed as failed:
                    refused = failed.errors
            errors.update({pairs[place][0]: error for place, error in refused.items()})
            self._added[name] = self._added.get(name, 0) + len(pairs) - len(refused)
        if errors:
            raise ItemsFailed(errors)

    def state(self) -> list[list[Any]]:
        """What is kept with a checkpoint, for each table: its name, columns, rows staged or written, staging table."""
        told = []
        for name, sink in self._sinks.items():
            columns, stage = sink.settled()
            told.append([name, list(columns), self._outputs[name] + self._added.get(name, 0), stage])
        return told

    def restore(self, checkpoint: Checkpoint | None) -> None:
        """Go on from a checkpoint. Raises GroundChangedError if it was begun with or without atomic, unlike now."""
        self._outputs, self._added = dict.fromkeys(self._sinks, 0), {}
        told = {name: rest for name, *rest in (checkpoint.state.get("columns", ()) if checkpoint else ())}
        for name, sink in self._sinks.items():
            columns, outputs, stage = told.get(name, ((), 0, None))
            sink.restore(columns, stage)
            self._outputs[name] = outputs
        if checkpoint is not None and self._claims:
            stages = [stage for _, _, stage in told.values() if stage]
            begun = replace(checkpoint, state={STAGE: ", ".join(stages)} if stages else {})
            require_same_way(self._key, begun, staged=self.staged)

    def filled(
        self, at: Checkpoint | None, outputs: int, in_parts: Callable[[], Iterable[Checkpoint]]
    ) -> Sequence[str]:
        """The tables, staged ones if there are any, that unfinished work has put so many outputs into.

        By its checkpoint, or by those of its partitions, if it has a plan.
        """
        if at is None or at.finished or not outputs:
            return ()
        found: dict[str, None] = {}
        for checkpoint in [at] if plan_of(at) is None else in_parts():
            for name, _, written, stage in checkpoint.state.get("columns", ()):
                if written and name in self._tables:
                    found[stage or self._tables[name]] = None
        return list(found)

    def forget(self) -> None:
        """The transaction was undone."""
        self._added = {}
        for sink in self._sinks.values():
            sink.forget()

    def end_transaction(self) -> None:
        """The transaction was committed."""
        for name, added in self._added.items():
            self._outputs[name] += added
        self._added = {}
        for sink in self._sinks.values():
            sink.end_transaction()

    def publish(self, connection: Any, checkpoint: Checkpoint) -> None:
        """Move what is staged into all tables, in the open transaction."""
        for name, sink in self._sinks.items():
            counts = replace(checkpoint.counts, outputs=self._outputs[name])
            sink.publish(connection, replace(checkpoint, counts=counts))

    def drop(self, connection: Any) -> str:
        """Drop all staging tables, in the open transaction; what they were."""
        names = [name for sink in self._sinks.values() if (name := sink.drop(connection))]
        return f"staging tables {', '.join(names)}" if names else ""

    def _routed(self, output: Any) -> tuple[str, Any]:
        if output is None:
            raise no_row(output)
        if self._by is not None:
            key, row = self._by(output), output
        elif isinstance(output, tuple) and len(output) == 2:  # noqa: PLR2004 - a pair
            key, row = output
        else:
            raise TypeError(f"an output must be a pair (name, row), got {type(output).__name__}; or say by=")
        if key not in self._names:
            raise ValueError(f"there is no table for {key!r}: they are {', '.join(self._names.values())}")
        return self._names[key], row


def _key_for(key: StepKey, name: str) -> StepKey:
    """What a table's staging table is named by: each needs a name of its own."""
    return replace(key, step=f"{key.step}\x1f{name}")
