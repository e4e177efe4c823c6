"""The jobs of the matrix: a step by every runner into every kind of writer, showing what is lost or there twice."""

import asyncio
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from batchwright import Job, Skip, Step
from batchwright.runners import EventLoop, Processes, Threads
from batchwright.writers import csv_file, file_set, insert, text_file, upsert

ITEMS, CHUNK = 90, 10

BAD = 13
"""Each such item is refused."""

ITEM_SECONDS = 0.001

BEGUN = "begun"
"""A file that is there as soon as items are processed."""

EXPECTED = [item for item in range(ITEMS) if item % BAD]

FAILED = [item for item in range(ITEMS) if item % BAD == 0]

SET_UP = """
CREATE TABLE rows (n INTEGER);
CREATE TABLE balance (total INTEGER);
INSERT INTO balance VALUES (0);
CREATE TRIGGER adds AFTER INSERT ON rows BEGIN UPDATE balance SET total = total + NEW.n; END;
"""

RUNNERS: dict[str, Callable[[], Any]] = {
    "inline": lambda: None,
    "threads": partial(Threads, 3),
    "event_loop": partial(EventLoop, 5),
    "processes": partial(Processes, 2),
}


def number(folder: Path, item: int) -> int:
    if item % CHUNK == 0:
        os.close(os.open(folder / BEGUN, os.O_WRONLY | os.O_CREAT))  # its time stays that of the first
    time.sleep(ITEM_SECONDS)
    if item % BAD == 0:
        raise ValueError(f"item {item} is refused")
    return item


def row(folder: Path, item: int) -> dict[str, int]:
    return {"n": number(folder, item)}


def line(folder: Path, item: int) -> str:
    return str(number(folder, item))


async def row_async(folder: Path, item: int) -> dict[str, int]:
    await asyncio.sleep(ITEM_SECONDS)
    return row(folder, item)


async def line_async(folder: Path, item: int) -> str:
    await asyncio.sleep(ITEM_SECONDS)
    return line(folder, item)


def append(path: Path, outputs: Sequence[str]) -> None:
    """A plain function: a chunk is appended in one call of the system."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, "".join(f"{output}\n" for output in outputs).encode())
    os.close(descriptor)


def prepare(writer: str, folder: Path) -> None:
    """What has to be there before the job is run."""
    if writer == "insert":
        with closing(sqlite3.connect(folder / "out.db")) as database:
            database.executescript(SET_UP)


def job(runner: str, writer: str, folder: Path, server: str) -> Job:
    """The job of one place in the matrix. `server` is where PostgreSQL is."""
    functions = (row_async, line_async) if runner == "event_loop" else (row, line)
    process = partial(functions[writer in ("text", "function")], folder)
    step = Step(
        "step",
        read=range(ITEMS),
        process=process,
        write=_target(writer, folder, server),
        chunk_size=CHUNK,
        skip=Skip(on=ValueError),
        runner=RUNNERS[runner](),
        checkpoint_seconds=0.01,
    )
    # With a parameter it is done once: whoever was killed at the very end has nothing to do.
    return Job(f"{runner}-{writer}", step, parameters={"folder": folder.name})


def _target(writer: str, folder: Path, server: str) -> Any:
    shop = f"sqlite:///{folder}/out.db"
    made: dict[str, Callable[[], Any]] = {
        "insert": lambda: insert(shop, "rows"),
        "upsert": lambda: upsert(shop, "rows", key="n"),
        "text": lambda: text_file(folder / "out.txt"),
        "csv": lambda: csv_file(folder / "out.csv"),
        "file_set": lambda: file_set(folder / "out", file=_file_of, form=csv_file),
        "function": lambda: partial(append, folder / "out.txt"),
        "postgres": lambda: insert(server, table_of(folder)),
    }
    return made[writer]()


WRITERS = ("insert", "upsert", "text", "csv", "file_set", "function", "postgres")


def _file_of(output: dict[str, int]) -> str:
    return f"{output['n'] % 3}.csv"


def table_of(folder: Path) -> str:
    """A table of its own."""
    return f"rows_{folder.name}".lower()


def written(writer: str, folder: Path, server: str) -> list[int]:
    """What is there, in order where there is one."""
    if writer in ("insert", "upsert"):
        return [found for (found,) in _rows(folder / "out.db", "SELECT n FROM rows ORDER BY n")]
    if writer == "postgres":
        import psycopg

        with psycopg.connect(server) as connection:
            found = connection.execute(f"SELECT n FROM {table_of(folder)} ORDER BY n").fetchall()
        return [number for (number,) in found]
    if writer == "file_set":
        files = sorted((folder / "out").glob("*.csv"))
        return sorted(int(text) for file in files for text in file.read_text().splitlines()[1:])
    lines = (folder / ("out.csv" if writer == "csv" else "out.txt")).read_text().splitlines()
    return [int(text) for text in lines[writer == "csv" :]]


def problems(writer: str, folder: Path, found: Sequence[int], kills: int) -> list[str]:
    """What is wrong beside what is lost or there twice."""
    wrong = []
    failed = [n for (n,) in _rows(folder / "ledger.db", "SELECT ordinal FROM batchwright_failures ORDER BY ordinal")]
    if failed != FAILED:
        wrong.append(f"failures at {failed}")
    if writer == "insert" and _rows(folder / "out.db", "SELECT total FROM balance") != [(sum(EXPECTED),)]:
        wrong.append("the balance is wrong")
    again = Counter(found) - Counter(EXPECTED)
    if writer == "function" and len({item // CHUNK for item in again.elements()}) > kills:
        wrong.append(f"after {kills} kills these came again: {sorted(again)}")
    if list(dict.fromkeys(found)) != EXPECTED:
        wrong.append("not in the order of the input")
    return wrong


def _rows(path: Path, sql: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()
