"""A process that runs a job on a PostgreSQL ledger and may stop itself, at a fault point or in its processor.

    python frozen_job.py LEDGER FOLDER KIND [POINT HIT]

POINT is that of a fault, or `item`: then HIT is the item at which it stops. The job writes 60 items in chunks of 10.
What each kind of target holds is read by `held`. FREEZES_BY names another signal than SIGSTOP.
"""

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from batchwright import Job, Step, run
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.ledgers.postgres_lease import Lease, LeaseTimes
from batchwright.model.errors import BatchwrightError
from batchwright.writers import insert, text_file

ITEMS, CHUNK = 60, 10

FREEZES = signal.Signals[os.environ.get("FREEZES_BY", "SIGSTOP")]
"""SIGTSTP is what Ctrl-Z sends. An orphaned process group does not hear it: the tests start one of their own."""

TIMES = LeaseTimes(heartbeat_seconds=0.1, ttl_seconds=1.5, margin_seconds=0.5)


def items() -> Iterator[int]:
    yield from range(ITEMS)


def job(url: str, folder: Path, kind: str) -> Job:
    def append(rows: list[int]) -> None:
        with (folder / "calls.txt").open("a") as file:
            file.writelines(f"{row}\n" for row in rows)

    targets: dict[str, Any] = {
        "sqlite": (lambda item: {"n": item}, insert(f"sqlite:///{folder}/out.db", "rows")),
        "postgres": (lambda item: {"n": item}, insert(url, "rows")),
        "file": (str, text_file(folder / "out.txt")),
        "function": (lambda item: item, append),
    }
    process, write = targets[kind]
    step = Step("load", read=items, process=stopping(process), write=write, chunk_size=CHUNK, checkpoint_seconds=0)
    return Job("frozen", step, parameters={"day": 1})


def stopping(process: Callable[[int], Any]) -> Callable[[int], Any]:
    """The processor, which stops this process at an item if it was told to."""
    stop = int(sys.argv[5]) if sys.argv[4:5] == ["item"] else None

    def stops(item: int) -> Any:
        if item == stop:
            os.kill(os.getpid(), FREEZES)
        return process(item)

    return stops


def held(url: str, folder: Path, kind: str) -> list[int]:
    """What the target holds; of a file only what is published."""
    if kind == "sqlite":
        with sqlite3.connect(f"file:{folder}/out.db?mode=ro", uri=True) as connection:
            found = [row[0] for row in connection.execute("SELECT n FROM rows ORDER BY n")]
        connection.close()
        return found
    if kind == "postgres":
        with psycopg.connect(url.partition("?")[0], options=url_options(url)) as database:
            return [row[0] for row in database.execute("SELECT n FROM rows ORDER BY n")]
    file = folder / ("out.txt" if kind == "file" else "calls.txt")
    return sorted(map(int, file.read_text().split())) if file.exists() else []


def url_options(url: str) -> str:
    from urllib.parse import parse_qs

    return parse_qs(url.partition("?")[2])["options"][0]


def stop_at(point: str, hit: int) -> None:
    hits = count(1)

    def watch(event: str, _: tuple[Any, ...]) -> None:
        if event == f"batchwright.{point}" and next(hits) == hit:
            os.kill(os.getpid(), FREEZES)

    sys.addaudithook(watch)


def plant_no_fence() -> None:
    """Neither the clock nor the epoch is looked at."""
    Lease.check = lambda self: None
    Lease.require = lambda self, connection, schema, doubts: None


def main() -> None:
    url, folder, kind, *where = sys.argv[1:]
    if os.environ.get("PLANTED") == "no fence":
        plant_no_fence()
    if where and where[0] != "item":
        stop_at(where[0], int(where[1]))
    try:
        result = run(job(url, Path(folder), kind), ledger=PostgresLedger(url, times=TIMES))
    except BatchwrightError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(error.exit_code)
    sys.stdout.write(f"{result.written}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
