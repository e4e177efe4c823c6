"""The folder that the loops work in: its input, how a script is started there, and what it leaves behind."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

ITEMS = 24

KILLED = -signal.SIGKILL

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE sales (id INTEGER, amount INTEGER);
CREATE TABLE addresses (id INTEGER PRIMARY KEY, street TEXT);
CREATE TABLE orders (id INTEGER, total INTEGER);
CREATE TABLE order_lines (id INTEGER, amount INTEGER);
CREATE TABLE files (path TEXT, digest TEXT);
CREATE TABLE report (shop TEXT, total INTEGER, lines INTEGER);
CREATE TABLE balance (shop TEXT PRIMARY KEY, total INTEGER);
CREATE TABLE scores (id INTEGER, score REAL);
INSERT INTO balance VALUES ('s0', 0), ('s1', 0), ('s2', 0);
"""


def prepare(folder: Path) -> Path:
    """Lay the input of every loop into a new folder."""
    folder.mkdir()
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        shop.executescript(SCHEMA)
        shop.executemany("INSERT INTO addresses VALUES (?, ?)", [(number, f"no {number}") for number in range(ITEMS)])
        shop.commit()
    with closing(sqlite3.connect(folder / "source.db")) as source:
        source.execute("CREATE TABLE sales (shop TEXT, amount INTEGER)")
        source.executemany("INSERT INTO sales VALUES (?, ?)", [(f"s{n % 9}", n) for n in range(ITEMS)])
        source.commit()
    rows = "".join(f"{number},{number * 7 % 10}\n" for number in range(ITEMS))
    (folder / "sales.csv").write_text("id,amount\n" + rows)
    customers = [{"address": f"c{n}@example.org", "wants_mail": n % 5 != 3} for n in range(ITEMS)]
    (folder / "customers.json").write_text(json.dumps(customers))
    for page in range(4):
        orders = [{"id": page * 6 + n, "total": n} for n in range(6)]
        following = f"page-{page + 1}.json" if page < 3 else None
        (folder / f"page-{page}.json").write_text(json.dumps({"orders": orders, "next": following}))
    for number in range(ITEMS):
        path = folder / "documents" / f"d{number % 4}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"document {number}")
    orders_with_lines = [{"id": n, "lines": list(range(n % 4))} for n in range(ITEMS)]
    (folder / "orders.jsonl").write_text("".join(json.dumps(order) + "\n" for order in orders_with_lines))
    texts = [{"id": n, "text": "" if n % 7 == 5 else f"text {n}"} for n in range(ITEMS)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    return folder


def start(script: str, folder: Path, *arguments: str, kill: str = "-", bug: str = "-") -> tuple[int, str]:
    """Run a script in a process of its own: its exit code and what it printed."""
    path = Path(__file__).with_name(f"{script}.py")
    done = subprocess.run(
        [sys.executable, "-m", "tests.examples.loops.start", kill, bug, str(path), str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "BATCHWRIGHT_LEDGER": str(folder / "ledger" / "ledger.db")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def outcome(folder: Path) -> Counter[str]:
    """Every row of the shop's tables, as often as it is there."""
    found = Counter[str]()
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        tables = shop.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            if not table.startswith(("batchwright", "sqlite")):
                found.update(f"{table} {row}" for row in shop.execute(f"SELECT * FROM {table}"))
    return found
