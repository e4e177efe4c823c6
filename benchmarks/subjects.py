"""What a child process does: `python subjects.py NAME JSON`; its answer is one line of JSON.

The one rule: a subject runs once, in a process of its own, and imports what it needs by itself: that is measured too.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def hand_load(path: str, database: str, shape: str, chunk_size: int) -> dict[str, Any]:
    """The main case by hand."""
    from by_hand import load_sales
    from sales import PROCESSES

    load_sales(path, database, PROCESSES[shape], shape, chunk_size)
    return {}


def framework_load(
    path: str, database: str, shape: str, chunk_size: int, table: str = "", limit: int | None = None
) -> dict[str, Any]:
    """The main case with batchwright; `table` makes one with a rule beforehand."""
    from sales import COLUMNS, PROCESSES

    from batchwright import Skip, Step, run
    from batchwright.readers import csv_rows
    from batchwright.writers import upsert

    if table:
        _make_table(database, table)
    columns = COLUMNS if shape == "tuples" else None
    step: Step[Any, Any] = Step(
        "load",
        read=csv_rows(path),
        process=PROCESSES[shape],
        write=upsert(f"sqlite:///{database}", "sales", key="id", columns=columns),
        chunk_size=chunk_size,
        skip=Skip(limit="1%"),
    )
    result = run(step, ledger=Path(database).with_name("ledger.db"), limit=limit)
    return {"read": result.read, "written": result.written, "failed": result.failed}


def hand_count(items: int) -> dict[str, Any]:
    """A bare loop over a range."""
    from by_hand import count_items

    begun = time.process_time()
    count_items(range(items), _same, _nothing)
    return {"seconds": time.process_time() - begun}


def framework_count(items: int) -> dict[str, Any]:
    """The engine over a range, with a ledger in memory, so that nothing but the engine is measured."""
    from batchwright import Step, run
    from batchwright.ledgers.memory import MemoryLedger

    step = Step("count", read=range(items), process=_same, write=_nothing)
    begun = time.process_time()
    run(step, ledger=MemoryLedger())
    return {"seconds": time.process_time() - begun}


def hand_loop(database: str, items: int) -> dict[str, Any]:
    """A loop of one's own that survives, by hand."""
    from by_hand import loop_with_a_checkpoint

    begun = time.process_time()
    loop_with_a_checkpoint(database, items, 500)
    return {"seconds": time.process_time() - begun}


def framework_loop(database: str, items: int) -> dict[str, Any]:
    """The same with `resumable`, whose chunks have 500 items."""
    from batchwright import resumable

    _make_table(database, "CREATE TABLE numbers (n INTEGER)")
    begun = time.process_time()
    ledger = Path(database).with_name("ledger.db")
    with resumable("loop", range(items), database=f"sqlite:///{database}", ledger=ledger) as loop:
        for number in loop:
            with loop.item():
                loop.connection.execute("INSERT INTO numbers VALUES (?)", (number,))
    return {"seconds": time.process_time() - begun}


def framework_stream(items: int, ledger: str) -> dict[str, Any]:
    """A long input in a cheap pipeline, with failures on the way and a ledger on disk: for peak memory."""
    from batchwright import Skip, Step, run

    step = Step("stream", read=range(items), process=_picky, write=_nothing, chunk_size=10_000, skip=Skip())
    result = run(step, ledger=ledger)
    return {"read": result.read, "failed": result.failed}


def framework_restart(path: str, at: int) -> dict[str, Any]:
    """A full read of a CSV file, and the way from nothing to the first block after item `at`."""
    from batchwright.model.block import Position
    from batchwright.readers import csv_rows

    reader = csv_rows(path)
    ordinal, position = 0, Position(0)
    begun = time.process_time()
    for block in reader.read(None):
        if ordinal <= at < ordinal + len(block):
            position = Position(at, block.anchor, at - ordinal)
        ordinal += len(block)
    full = time.process_time() - begun
    restarts = []
    for _ in range(9):
        begun = time.process_time()
        first = next(csv_rows(path).read(position))
        restarts.append(time.process_time() - begun)
        assert first.anchor == position.anchor
    return {"full": full, "restart": sorted(restarts)[4]}


def modules() -> dict[str, Any]:
    """How many modules `import batchwright` adds."""
    before = set(sys.modules)
    __import__("batchwright")
    added = set(sys.modules) - before
    return {"modules": len(added), "ours": sum(name.startswith("batchwright") for name in added)}


def table_digest(database: str) -> dict[str, Any]:
    """What stands in the table: equal for equal contents."""
    import hashlib
    import sqlite3

    digest = hashlib.sha256()
    rows = 0
    for row in sqlite3.connect(database).execute("SELECT * FROM sales ORDER BY id"):
        digest.update(repr(row).encode())
        rows += 1
    return {"rows": rows, "digest": digest.hexdigest()}


def _make_table(database: str, table: str) -> None:
    import sqlite3

    connection = sqlite3.connect(database)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(table)
    connection.close()


def _same(item: int) -> int:
    return item


def _picky(item: int) -> int:
    if item % 10_000 == 0:
        raise ValueError("every ten-thousandth")
    return item


def _nothing(outputs: Sequence[int]) -> None:
    """Write nowhere."""


SUBJECTS: dict[str, Callable[..., dict[str, Any]]] = {
    subject.__name__: subject
    for subject in (
        hand_load,
        framework_load,
        hand_count,
        framework_count,
        hand_loop,
        framework_loop,
        framework_stream,
        framework_restart,
        modules,
        table_digest,
    )
}


def _peak() -> dict[str, float]:
    """The most memory that this process has held, where the system tells it of the process alone."""
    status = Path("/proc/self/status")
    if not status.exists():
        return {}
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return {"peak_megabytes": int(lines["VmHWM"].split()[0]) / 1024}


if __name__ == "__main__":
    print(json.dumps({**SUBJECTS[sys.argv[1]](**json.loads(sys.argv[2])), **_peak()}))
