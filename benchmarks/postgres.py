"""Into PostgreSQL: a whole run of ours against psycopg's `executemany`, rows and checkpoint in one transaction a chunk.

    python benchmarks/postgres.py [rows] [chunk size] [rounds]

The one rule: same rows, same chunks, same durability; CPU is that of the client and of every process of the server.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.postgres.server import Server, running_server

from batchwright import Job, Step, run
from batchwright.writers import insert, upsert

COLUMNS = ("id", "name", "email", "amount", "day")

CREATE = """
DROP TABLE IF EXISTS sales, done;
CREATE TABLE sales (id bigint {key}, name text, email text, amount numeric, day date);
CREATE TABLE done (step text PRIMARY KEY, upto bigint);
INSERT INTO done VALUES ('load', 0);
"""

INSERT = f"INSERT INTO sales VALUES ({', '.join(f'%({name})s' for name in COLUMNS)})"

UPSERT = f"{INSERT} ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])

Row = dict[str, Any]


def rows_of(count: int) -> list[Row]:
    return [
        {
            "id": number,
            "name": f"name {number}",
            "email": f"user.{number}@example.org",
            "amount": Decimal(number * 7 % 100_000) / 100,
            "day": date(2026, 1 + number % 12, 1 + number % 28),
        }
        for number in range(count)
    ]


def by_hand(url: str, rows: list[Row], chunk_size: int, sql: str) -> None:
    with psycopg.connect(url) as connection:
        for start in range(0, len(rows), chunk_size):
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(sql, rows[start : start + chunk_size])
                cursor.execute("UPDATE done SET upto = %s WHERE step = 'load'", [start + chunk_size])


def by_us(url: str, rows: list[Row], chunk_size: int, writer: Callable[..., Any], **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        step = Step("load", read=rows, write=writer(url, "sales", **options), chunk_size=chunk_size)
        run(Job("bench", step), ledger=f"sqlite:///{folder}/ledger.db")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA batchwright CASCADE")


def server_cpu(server: Server) -> float:
    """Seconds of all processes of the server, those that have ended included."""
    postmaster = psutil.Process(server.pid)
    seconds = 0.0
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            seconds += sum(child.cpu_times()[:2])
    return seconds + sum(postmaster.cpu_times()[:4])


def measured(server: Server, existing: list[Row], key: str, work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of some work, into a table that holds these rows."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(CREATE.format(key=key))
        if existing:
            with connection.cursor().copy(f"COPY sales ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                for row in existing:
                    copy.write_row(list(row.values()))
        connection.execute("VACUUM ANALYZE sales")
        connection.execute("CHECKPOINT")
    wall, cpu = time.perf_counter(), time.process_time() + server_cpu(server)
    work()
    return time.perf_counter() - wall, time.process_time() + server_cpu(server) - cpu


def main(count: int = 100_000, chunk_size: int = 1_000, rounds: int = 3) -> None:
    rows = rows_of(count)
    cases: dict[str, tuple[list[Row], str, str, Callable[..., Any], dict[str, Any]]] = {
        "insert, no key": ([], "", INSERT, insert, {}),
        "upsert, all new": ([], "PRIMARY KEY", UPSERT, upsert, {"key": "id"}),
        "upsert, 1 in 100 exists": (rows[::100], "PRIMARY KEY", UPSERT, upsert, {"key": "id"}),
        "upsert, all exist": (rows, "PRIMARY KEY", UPSERT, upsert, {"key": "id"}),
    }
    print(f"{count:,} rows in chunks of {chunk_size:,}, median of {rounds}: seconds wall / CPU of client and server")
    with running_server() as server:
        for name, (existing, key, sql, writer, options) in cases.items():
            hand, ours = [], []
            for _ in range(rounds):
                hand.append(measured(server, existing, key, partial(by_hand, server.url, rows, chunk_size, sql)))
                us = partial(by_us, server.url, rows, chunk_size, writer, **options)
                ours.append(measured(server, existing, key, us))
            medians = [statistics.median(values) for pair in (hand, ours) for values in zip(*pair, strict=True)]
            print(
                f"{name:<24} executemany {medians[0]:.2f} / {medians[1]:.2f}   batchwright {medians[2]:.2f} / "
                f"{medians[3]:.2f}   ratio {medians[2] / medians[0]:.2f} / {medians[3] / medians[1]:.2f}"
            )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
