"""Two workers against one, into PostgreSQL and into SQLite: the same step in partitions; and with a function that keeps
Python busy, on two processes against one.

    python benchmarks/partitions.py [rows] [chunk size] [rounds]

The one rule: both are measured in turns within one run; what counts is the ratio, not the seconds.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.postgres.server import running_server

from batchwright import Job, Step, run
from batchwright.runners import Processes
from batchwright.writers import insert

PARTITIONS = 8

BUSY_ITEMS = 20_000


def main() -> None:
    rows, chunk_size, rounds = (int(text) for text in (sys.argv[1:4] + ["100000", "1000", "5"][len(sys.argv) - 1 :]))
    items = [{"id": n, "name": f"name {n}", "amount": n / 100} for n in range(rows)]
    with tempfile.TemporaryDirectory() as folder, running_server() as server:
        place = Path(folder)

        def postgres(workers: int) -> float:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("DROP TABLE IF EXISTS sales")
                connection.execute("CREATE TABLE sales (id bigint, name text, amount double precision)")
            return seconds(load(items, insert(server.url, "sales"), chunk_size, workers), place)

        def sqlite(workers: int) -> float:
            (place / "sales.db").unlink(missing_ok=True)
            return seconds(load(items, insert(f"sqlite:///{place}/sales.db", "sales"), chunk_size, workers), place)

        for name, measure in (("PostgreSQL", postgres), ("SQLite", sqlite)):
            report(name, measure, rounds, rows)

        def busy(workers: int) -> float:
            (place / "sales.db").unlink(missing_ok=True)
            return seconds(Job.of(computing, items=BUSY_ITEMS, folder=folder, workers=workers), place)

        report("200 µs of Python an item, in processes, into SQLite", busy, rounds, BUSY_ITEMS)


def compute(item: dict[str, int]) -> dict[str, int]:
    """About 200 µs of Python on a machine of 2024."""
    total = item["id"]
    for number in range(3_000):
        total += number * number % 7
    return {"id": item["id"], "total": total}


def computing(items: int, folder: str, workers: int) -> Job:
    write = insert(f"sqlite:///{folder}/sales.db", "sales")
    how: Any = {"partitions": PARTITIONS, "runner": Processes(workers)}
    return Job("computing", Step("load", read=[{"id": n} for n in range(items)], process=compute, write=write, **how))


def load(items: list[Any], write: Any, chunk_size: int, workers: int) -> Step[Any, Any]:
    return Step("load", read=items, write=write, chunk_size=chunk_size, partitions=PARTITIONS, workers=workers)


def seconds(step: Step[Any, Any] | Job, folder: Path) -> float:
    for old in (*folder.glob("ledger.db*"), *folder.glob("sales.db-*")):
        old.unlink()
    began = time.perf_counter()
    run(step, ledger=folder / "ledger.db", again=True, yes=True)
    return time.perf_counter() - began


def report(name: str, measure: Callable[[int], float], rounds: int, rows: int) -> None:
    pairs = [(measure(1), measure(2)) for _ in range(rounds)]
    one, two = (statistics.median(taken) for taken in zip(*pairs, strict=True))
    ratio = statistics.median(first / second for first, second in pairs)
    print(
        f"{name}: one worker {rows / one:,.0f} rows/s, two {rows / two:,.0f} rows/s; two are {ratio:.2f} times as fast"
    )


if __name__ == "__main__":
    main()
