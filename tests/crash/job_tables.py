"""What the reference jobs find: tables, files, and how many items there are to read."""

import sqlite3
from pathlib import Path

from batchwright.writers.manifests import SetManifest

ITEMS = 40

SHOP = """
PRAGMA journal_mode = WAL;
CREATE TABLE audit (id INTEGER);
CREATE TABLE sales (id INTEGER, shop TEXT, amount INTEGER CHECK (amount <> 13));
CREATE TRIGGER audited BEFORE INSERT ON sales BEGIN
    INSERT INTO audit VALUES (NEW.id);
    SELECT RAISE(FAIL, 'too large') WHERE NEW.amount > 900;
END;
CREATE TABLE parts (id INTEGER, part INTEGER CHECK (part <> 3 OR id <> 8));
CREATE TABLE balance (shop TEXT PRIMARY KEY, total INTEGER);
INSERT INTO balance VALUES ('s0', 0), ('s1', 0), ('s2', 0);
"""

FAMILY = """
CREATE TABLE parents (code TEXT UNIQUE, id INTEGER UNIQUE);
CREATE TABLE children (parent INTEGER REFERENCES parents (id) ON UPDATE CASCADE);
CREATE TABLE renamed (parent INTEGER);
CREATE TRIGGER audited_children AFTER UPDATE ON children BEGIN
    INSERT INTO renamed VALUES (NEW.parent);
    SELECT RAISE(FAIL, 'no such number') WHERE NEW.parent % 7 = 3;
END;
INSERT INTO parents VALUES ('c0', -1), ('c1', -2), ('c2', -3);
INSERT INTO children VALUES (-1), (-2), (-3);
"""

ORDERS = """
CREATE TABLE shops (id INTEGER PRIMARY KEY);
INSERT INTO shops VALUES (0), (1), (2);
CREATE TABLE orders (id INTEGER, shop INTEGER REFERENCES shops DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE order_lines (id INTEGER, line INTEGER);
"""

FIRSTS = """
CREATE TABLE firsts (id INTEGER CHECK (id NOT IN (2, 9)), key INTEGER);
CREATE TABLE laps (id INTEGER, key INTEGER);
"""

WHOLE = """
PRAGMA journal_mode = WAL;
CREATE TABLE sales (id INTEGER, shop TEXT, amount INTEGER);
CREATE TABLE moves (shop TEXT, amount INTEGER);
"""

NUMBERS = f"""
CREATE TABLE numbers (id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM n WHERE id < {ITEMS - 1})
INSERT INTO numbers SELECT id, 'name ' || id FROM n;
"""

ROUTES = """
CREATE TABLE orders (id INTEGER PRIMARY KEY CHECK (id NOT IN (4, 22)));
CREATE TABLE lines (id INTEGER REFERENCES orders, line INTEGER CHECK (line + id <> 13));
CREATE TABLE totals (shop INTEGER PRIMARY KEY, total INTEGER);
INSERT INTO totals VALUES (0, 0), (1, 0), (2, 0);
"""

PARTS = """
CREATE TABLE sold (id INTEGER, shop TEXT, amount INTEGER CHECK (amount <> 13));
CREATE TABLE balance (shop TEXT PRIMARY KEY, total INTEGER);
INSERT INTO balance VALUES ('s0', 0), ('s1', 0), ('s2', 0);
"""

DATABASES = {
    "shop.db": SHOP,
    "family.db": FAMILY,
    "whole.db": WHOLE,
    "orders.db": ORDERS,
    "numbers.db": NUMBERS,
    "firsts.db": FIRSTS,
    "routes.db": ROUTES,
    "parts.db": PARTS,
}


def prepare(folder: Path) -> None:
    """Lay the input of every job into an empty folder."""
    sales = [f"{i},s{i % 3},{amount_of(i)}" + (",one too many" if i % 17 == 16 else "") for i in range(ITEMS)]
    (folder / "sales.csv").write_text("\n".join(["id,shop,amount", *sales]) + "\n")
    (folder / "lines.txt").write_text("".join(f"line {i}\n" for i in range(ITEMS)))
    documents = [f'{{"id": {i}' + ("}" if i % 11 != 10 else "") for i in range(ITEMS)]
    (folder / "documents.jsonl").write_text("\n".join(documents) + "\n")
    old = folder / "sets" / "old"
    old.mkdir(parents=True)
    SetManifest([]).write(old, 0o644)
    for name, script in DATABASES.items():
        execute_script(folder / name, script)


def execute_script(path: Path, script: str) -> None:
    """Make a database."""
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def amount_of(number: int) -> int:
    """What a sale is worth: some break the table's rules, some the trigger's, some the processor's."""
    return {5: 13, 19: 950, 20: 990, 21: -1, 33: 13}.get(number, number * 7 % 100 + 100)
