"""A job that runs on one of several hosts: rows without a key, a running balance, and calls of a function.

Told by the environment: FOLDER, where it says how far it is; GATE, the item at which it waits for `go` in that folder;
PACE, how long an item takes; TARGET, the database; PLANTED, a bug.
"""

import os
import time
from pathlib import Path

from batchwright import Job, Step
from batchwright.databases import postgres_records
from batchwright.ledgers.postgres_lease import Lease
from batchwright.readers import query
from batchwright.writers import execute, insert

ITEMS, CHUNK = 200, 10

FOLDER = Path(os.environ.get("FOLDER", "."))
GATE = int(os.environ.get("GATE", "-1"))
PACE = float(os.environ.get("PACE", "0"))
TARGET = os.environ.get("TARGET", "postgresql://")

NUMBERS = f"SELECT n FROM generate_series(0, {ITEMS - 1}) n"

MOVE = "UPDATE balance SET total = total + %s, moves = moves + 1"


def job(kind: str) -> Job:
    rows = Step(
        "rows", read=range(ITEMS), process=lambda n: {"n": item(n)}, write=insert(TARGET, "rows"), chunk_size=CHUNK
    )
    moves = Step(
        "moves", read=range(ITEMS), process=lambda n: (item(n),), write=execute(TARGET, MOVE), chunk_size=CHUNK
    )
    calls = Step("calls", read=range(ITEMS), process=item, write=append, chunk_size=CHUNK, checkpoint_seconds=0.01)
    read = Step(
        "read", read=query(TARGET, NUMBERS, key="n", page_rows=20), process=item, write=append, chunk_size=CHUNK
    )
    steps = {"tables": (rows, moves), "function": (calls,), "reading": (read,)}
    return Job("moving", *steps[kind])


def item(n: int | dict[str, int]) -> int:
    n = n["n"] if isinstance(n, dict) else n
    if n == GATE:
        (FOLDER / "waits").touch()
        while not (FOLDER / "go").exists():
            time.sleep(0.01)
    if PACE:
        time.sleep(PACE)
    return n


def append(items: list[int]) -> None:
    """What cannot be taken back."""
    with (FOLDER.parent / "calls.txt").open("a") as file:
        file.writelines(f"{n}\n" for n in items)


def plant_no_fence() -> None:
    """Neither the clock, nor the epoch, nor the target's fence, nor where its checkpoint stands is looked at."""

    def put(connection, schema, key, before, after) -> None:
        postgres_records.put_checkpoint(connection, schema, key, after)

    Lease.check = lambda self: None
    Lease.require = lambda self, connection, schema, doubts: None
    postgres_records.check_fence = lambda connection, schema, key, epoch: None
    postgres_records.move_checkpoint = put


def plant_patience() -> None:
    """Whoever waits for an answer waits until it comes."""
    from batchwright.databases.postgres_connection import _BoundedConnection

    _BoundedConnection._bounded = lambda self, waits: waits


BUGS = {"no fence": plant_no_fence, "patience": plant_patience}

if "PLANTED" in os.environ:
    BUGS[os.environ["PLANTED"]]()
