"""What the suites share that run a job in partitions and kill it: the seed, the job but for its target, its settings.

The one rule: how many work on how many partitions, in chunks of what size, is drawn anew for every process.
"""

import os
import random
from pathlib import Path

from tests.crash.fork_client import ROOT

SEED = int(os.environ.get("BATCHWRIGHT_PARTITION_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)

KILLS, DEADLINE_SECONDS = 4, 120.0

HEAD = """
import os
from batchwright import Job, Skip, Step
from batchwright.readers import csv_rows
from batchwright.runners import Processes
from batchwright.writers import execute, insert

def good(row):
    if int(row["id"]) % 500 == 3:
        raise ValueError("a bad one")
    return {"id": int(row["id"])}

def job(rows, adds) -> Job:
    many = int(os.environ["WORKERS"])
    how = dict(
        read=csv_rows("in.csv"),
        process=good,
        partitions=int(os.environ["PARTITIONS"]),
        chunk_size=int(os.environ["CHUNK"]),
        skip=Skip(on=ValueError, limit=50),
        **(dict(runner=Processes(many)) if os.environ["RUNNER"] == "processes" else dict(workers=many)),
    )
    return Job("load", Step("rows", write=rows, **how), Step("balance", write=adds, **how))
"""
"""A job of two steps, given what they write to; a bad row in five hundred."""


def lay_out(folder: Path, load: str, rows: int) -> None:
    """Write the job, with the function `load` behind it, and its input."""
    (folder / "job.py").write_text(HEAD + load)
    (folder / "in.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(rows)))


def environment(drawn: random.Random, runner: str, ledger: str, **more: str) -> dict[str, str]:
    """The environment of a process."""
    return {
        **os.environ,
        **more,
        "PYTHONPATH": str(ROOT),
        "BATCHWRIGHT_LEDGER": ledger,
        "RUNNER": runner,
        "PARTITIONS": str(drawn.randrange(1, 9)),
        "WORKERS": str(drawn.randrange(1, 4)),
        "CHUNK": str(drawn.randrange(5, 80)),
    }
