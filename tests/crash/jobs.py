"""The reference jobs that are killed: every kind of reader, processor and writer, in small chunks.

The one rule: each writes what a duplicate shows up in: rows without a key, a running balance, files byte for byte.
Every job is a function of the folder that holds its input and takes its output. Loaded by file, too: see `drive.py`.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.crash.clock import CLOCK
from tests.crash.job_ports import AppendIds, Pages, append_to, claim
from tests.crash.job_tables import ITEMS, amount_of

from batchwright import DROP, Drop, Job, Retry, Skip, Step, Unpublished, distinct, each
from batchwright.model.fault_points import reach
from batchwright.ports import Writer
from batchwright.readers import csv_rows, json_lines, query, text_lines
from batchwright.writers import csv_file, execute, file_set, insert, json_lines_file, route, text_file, upsert

CHUNK = 3

BAD = Skip(on=(ValueError, TypeError, sqlite3.IntegrityError))

NOW_AND_THEN = 0.02
"""Seconds of the stepping clock: a file becomes durable every few chunks, not at each."""

AT_THE_END = 1_000_000.0

SLOW_SECONDS = 0.7

TRY_AGAIN = Retry(on=OSError, attempts=3, delay_seconds=0)

CLAIMED_AT = 6
"""The item at which the first partition of `parts` is claimed by somebody else: in the third chunk."""

_tried: set[object] = set()


def tables(folder: Path) -> Job:
    """CSV into a table without a key; several rows an item; a running balance; upserts, one refused by a cascade."""
    shop = f"sqlite:///{folder}/shop.db"
    sales = query(shop, "SELECT id, shop, amount FROM sales", key=("id", "amount"), page_rows=5)
    return Job(
        "tables",
        step("load", csv_rows(folder / "sales.csv"), to_sale, insert(shop, "sales"), retry=TRY_AGAIN),
        step("split", csv_rows(folder / "sales.csv"), to_parts, insert(shop, "parts"), chunk_size=4),
        step("add", sales, to_move, execute(shop, ADD)),
        step("keep", latest, to_latest, upsert(shop, "latest", key="shop")),
        step("rename", latest, to_parent, upsert(f"sqlite:///{folder}/family.db", "parents", key="code")),
    )


def files(folder: Path) -> Job:
    """A query into CSV, lines into text, documents into documents; durable at every chunk, or only now and then."""
    numbers = query(f"sqlite:///{folder}/numbers.db", "SELECT id, name FROM numbers", key="id", page_rows=5)
    lines, documents = folder / "lines.txt", folder / "documents.jsonl"
    return Job(
        "files",
        step("rows", numbers, to_row, csv_file(folder / "out" / "rows.csv"), checkpoint_seconds=0),
        step(
            "lines",
            text_lines(lines),
            to_line,
            text_file(folder / "out" / "lines.txt"),
            checkpoint_seconds=NOW_AND_THEN,
        ),
        step(
            "documents",
            json_lines(documents),
            to_documents,
            json_lines_file(folder / "out" / "documents.jsonl"),
            checkpoint_seconds=0,
        ),
        step("once", range(ITEMS), None, text_file(folder / "out" / "none.txt"), checkpoint_seconds=AT_THE_END),
    )


def late(folder: Path) -> Job:
    """Rows that are refused at COMMIT only, in a database with a rollback journal of its own; an async processor."""
    orders = f"sqlite:///{folder}/orders.db"
    return Job(
        "late",
        step("orders", order_numbers, to_order, insert(orders, "orders"), chunk_size=5),
        step("lines", order_numbers, to_order_lines, insert(orders, "order_lines"), chunk_size=2),
    )


def slow(folder: Path) -> Job:
    """One chunk for all that there is, in which time runs out again and again: each is cut, and each elsewhere."""
    shop = f"sqlite:///{folder}/shop.db"
    lines, pages = text_lines(folder / "lines.txt"), Pages()
    options = {"chunk_size": ITEMS * 2}
    return Job(
        "slow",
        step("load", csv_rows(folder / "sales.csv"), to_slow_sale, insert(shop, "sales"), retry=TRY_AGAIN, **options),
        step("add", pages, to_slow_move, execute(shop, ADD), **options),
        step("lines", lines, to_slow_lines, text_file(folder / "out" / "slow.txt"), checkpoint_seconds=6, **options),
    )


def calls(folder: Path) -> Job:
    """Plain functions as writers: nothing may be lost, and only the chunk in flight may come again."""
    return Job(
        "calls",
        step("append", csv_rows(folder / "sales.csv"), to_sale, AppendIds(folder / "append.txt"), retry=TRY_AGAIN),
        step("each", csv_rows(folder / "sales.csv"), to_steady_sale, each(append_to(folder / "each.txt"))),
    )


def firsts(folder: Path) -> Job:
    """The first good item of each key: into a table without a key, one refused at COMMIT only, and a file."""
    shop, orders = f"sqlite:///{folder}/firsts.db", f"sqlite:///{folder}/orders.db"
    lines, out = text_lines(folder / "lines.txt"), text_file(folder / "out" / "firsts.txt")
    by_key, forever = distinct(key="key", then=to_first), distinct(key="key", then=to_steady_first, across_laps=True)
    return Job(
        "firsts",
        step("table", repeated, by_key, insert(shop, "firsts"), retry=TRY_AGAIN),
        step("late", repeated, distinct(key="key", then=to_late_firsts), insert(orders, "orders")),
        step("file", lines, distinct(key=end_of, then=to_line), out, checkpoint_seconds=NOW_AND_THEN),
        step("laps", repeated, forever, insert(shop, "laps"), chunk_size=7),
    )


def staged(folder: Path) -> Job:
    """All or nothing, staged: rows without a key, and keys that come again."""
    database = f"sqlite:///{folder}/whole.db"
    sales, some = csv_rows(folder / "sales.csv"), Skip(on=BAD.on, limit=ITEMS)
    return Job(
        "staged",
        step("keep", latest, to_latest, upsert(database, "latest", key="shop"), atomic=True, publish_if=has_seven),
        step("stage", sales, to_sound_sale, insert(database, "sales"), skip=some, atomic=True),
    )


def once(folder: Path) -> Job:
    """All or nothing, each step in one transaction."""
    database = f"sqlite:///{folder}/whole.db"
    sales, some = csv_rows(folder / "sales.csv"), Skip(on=BAD.on, limit=ITEMS)
    moves = "INSERT INTO moves VALUES (:shop, :amount)"
    return Job(
        "once",
        step("once", sales, to_sound_sale, insert(database, "once"), skip=some, atomic="transaction"),
        step("move", Pages(), to_small_move, execute(database, moves), atomic="transaction", publish_if=has_all),
    )


def sets(folder: Path) -> Job:
    """Files of one folder, which is new, or takes the place of another; durable at every chunk, or now and then."""
    new = file_set(folder / "sets" / "new", file="{shop}.csv", form=csv_file)
    old = file_set(folder / "sets" / "old", file=lambda row: f"{row['id'] % 5}.jsonl", form=json_lines_file)
    documents = json_lines(folder / "documents.jsonl")
    return Job(
        "sets",
        step("new", csv_rows(folder / "sales.csv"), to_sale, new, retry=TRY_AGAIN, checkpoint_seconds=0),
        step("old", documents, to_documents, old, checkpoint_seconds=NOW_AND_THEN),
    )


def routes(folder: Path) -> Job:
    """Rows for several tables from one item: chunk by chunk, with refusals in each of them, and all or nothing."""
    database = f"sqlite:///{folder}/routes.db"
    add = execute(database, "UPDATE totals SET total = total + :line WHERE shop = :shop")
    plain = route({"orders": insert(database, "orders"), "lines": insert(database, "lines"), "totals": add})
    whole = route({"orders": insert(database, "whole_orders"), "lines": upsert(database, "whole_lines", key="id")})
    return Job(
        "routes",
        step("plain", order_numbers, to_rows, plain),
        step("whole", order_numbers, to_few_rows, whole, skip=None, atomic=True, chunk_size=7),
    )


def parts(folder: Path) -> Job:
    """In partitions: rows without a key, of which some are claimed by somebody meanwhile, and a running balance."""
    database, sales = f"sqlite:///{folder}/parts.db", csv_rows(folder / "sales.csv")
    add = execute(database, "UPDATE balance SET total = total + :amount WHERE shop = :shop", commutes=True)
    sold = insert(database, "sold")
    return Job(
        "parts",
        step("load", sales, partial(to_sold, sold), sold, partitions=3, skip=Skip(on=BAD.on, limit=ITEMS)),
        step("add", sales, to_steady_sale, add, partitions=4),
    )


JOBS: dict[str, Callable[[Path], Job]] = {
    "tables": tables,
    "files": files,
    "late": late,
    "slow": slow,
    "firsts": firsts,
    "calls": calls,
    "sets": sets,
    "staged": staged,
    "once": once,
    "routes": routes,
    "parts": parts,
}

ADD = "UPDATE balance SET total = total + :amount WHERE shop = :shop"


def step(name: str, read: Any, process: Any, write: Any, **options: Any) -> Step[Any, Any]:
    """A step in small chunks that sets bad items aside."""
    return Step(name, read=read, process=process, write=write, **{"chunk_size": CHUNK, "skip": BAD, **options})


def to_sale(row: dict[str, str]) -> dict[str, Any] | Drop:
    """Some fail the first time that a process meets them."""
    number = int(row["id"])
    if number % 9 == 4 and number not in _tried:
        _tried.add(number)
        raise OSError("try again")
    return to_steady_sale(row)


def to_steady_sale(row: dict[str, str]) -> dict[str, Any] | Drop:
    """Some always fail; some are dropped."""
    reach("K5")
    number, amount = int(row["id"]), int(row["amount"])
    if amount < 0:
        raise ValueError(f"the amount of {number} is negative")
    return DROP if number % 8 == 7 else {"id": number, "shop": row["shop"], "amount": amount}


def to_sound_sale(row: dict[str, str]) -> dict[str, Any] | Drop:
    """What would break a rule of a table is refused beforehand."""
    sale = to_steady_sale(row)
    if not isinstance(sale, Drop) and sale["amount"] == amount_of(19):
        raise ValueError("too large")
    return sale


def to_sold(target: Writer[Any], row: dict[str, str]) -> dict[str, Any] | Drop:
    """In each process, when it first meets one item, somebody else claims the partition: a zombie has made this."""
    sale = to_sound_sale(row)
    if int(row["id"]) != CLAIMED_AT or CLAIMED_AT in _tried or isinstance(sale, Drop):
        return sale
    _tried.add(CLAIMED_AT)
    claim(target, 1)
    return {**sale, "shop": "a zombie's"}


def to_small_move(number: int) -> dict[str, Any]:
    """What is added to a shop."""
    reach("K5")
    return {"shop": f"s{number % 3}", "amount": number}


def has_seven(batch: Unpublished) -> bool:
    """Whether a table is as it has to be published."""
    reach("K5")
    return batch.query("SELECT count(*) FROM latest") == [(7,)] == batch.query(f"SELECT count(*) FROM {batch.staged}")


def has_all(batch: Unpublished) -> bool:
    """Whether each item has its row in the open transaction."""
    return batch.query("SELECT count(*), sum(amount) FROM moves") == [(ITEMS, sum(range(ITEMS)))]


def to_parts(row: dict[str, str]) -> Iterator[dict[str, int]]:
    """None to three rows an item; a whole item is refused when one of its rows is."""
    reach("K5")
    number = int(row["id"])
    for part in range(number % 4):
        yield {"id": number, "part": part + 1}
    if number == 8:
        yield from ({"id": number, "part": part} for part in (1, 2, 3))


def to_move(row: dict[str, Any]) -> dict[str, Any]:
    """What is added to a shop's balance."""
    reach("K5")
    return {"shop": row["shop"], "amount": row["amount"]}


def latest() -> Iterator[int]:
    """A plain function as input."""
    yield from range(ITEMS)


def to_latest(number: int) -> dict[str, Any]:
    """Later items overwrite earlier ones."""
    reach("K5")
    return {"shop": f"s{number % 7}", "number": number}


def to_parent(number: int) -> dict[str, Any]:
    """Gives a parent another number, and so its children: one that their trigger may refuse."""
    reach("K5")
    return {"code": f"c{number % 3}", "id": number}


def repeated() -> Iterator[dict[str, int]]:
    """Pairs with one key, which comes again a few chunks later."""
    for number in range(ITEMS):
        yield {"id": number, "key": number // 2 * 5 % 9}


def to_first(row: dict[str, int]) -> dict[str, int]:
    """One fails the first time that a process meets it."""
    if row["id"] == 8 and "first" not in _tried:
        _tried.add("first")
        raise OSError("try again")
    return to_steady_first(row)


def to_steady_first(row: dict[str, int]) -> dict[str, int]:
    """Some firsts always fail."""
    reach("K5")
    if row["id"] in (4, 5):
        raise ValueError(f"{row['id']} is no good")
    return row


def to_late_firsts(row: dict[str, int]) -> Iterator[dict[str, int]]:
    """Two rows an item; some firsts name a shop that is not there."""
    reach("K5")
    yield {"id": row["id"], "shop": 9 if row["id"] in (0, 7, 10) else 1}
    yield {"id": row["id"], "shop": 2}


def end_of(line: str) -> str:
    """A key of lines: one of ten."""
    return line[-1]


def to_row(row: dict[str, Any]) -> dict[str, Any] | Drop:
    """Some cannot be written in a cell."""
    reach("K5")
    if row["id"] % 10 == 3:
        return DROP
    return {**row, "name": b"bytes"} if row["id"] % 12 == 5 else row


def to_line(line: str) -> str:
    """Some are two lines, which no line can be."""
    reach("K5")
    return "two\nlines" if line.endswith("13") else line.upper()


def to_documents(document: dict[str, int]) -> Iterator[dict[str, Any]]:
    """None to two documents an item; one of them has what JSON has not."""
    reach("K5")
    for part in range(document["id"] % 3):
        yield {**document, "part": float("nan") if document["id"] == 14 else part}


def order_numbers() -> range:
    """A function that gives a sequence."""
    return range(ITEMS)


def to_rows(number: int) -> Iterator[tuple[str, dict[str, int]]]:
    """An order, none to two lines, and what they add."""
    reach("K5")
    yield "orders", {"id": number}
    for line in range(number % 3):
        yield "lines", {"id": number, "line": line}
        yield "totals", {"shop": number % 3, "line": line + number}


def to_few_rows(number: int) -> Iterator[tuple[str, dict[str, int]]]:
    """An order, and a line that overwrites that of another."""
    reach("K5")
    yield "orders", {"id": number}
    yield "lines", {"id": number % 5, "line": number}


async def to_order(number: int) -> dict[str, int]:
    """Some name a shop that is not there."""
    reach("K5")
    return {"id": number, "shop": 9 if number in (6, 7, 23) else number % 3}


async def to_order_lines(number: int) -> AsyncIterator[dict[str, int]]:
    """None to two rows an item."""
    reach("K5")
    for line in range(number % 3):
        yield {"id": number, "line": line}


def to_slow_sale(row: dict[str, str]) -> dict[str, Any] | Drop:
    """As in `tables`, but it takes its time, and fails less often: what is tried again has a pass of its own."""
    CLOCK.spend(SLOW_SECONDS)
    return to_sale(row) if int(row["id"]) in (22, 31) else to_steady_sale(row)


async def to_slow_move(number: int) -> dict[str, Any]:
    """What is added to a shop's balance, waited for."""
    CLOCK.spend(SLOW_SECONDS)
    return to_move({"shop": f"s{number % 3}", "amount": 2**number})


def to_slow_lines(line: str) -> Iterator[str]:
    """One line and a line of its length; some are two lines."""
    CLOCK.spend(SLOW_SECONDS)
    yield from (to_line(line), str(len(line)))
