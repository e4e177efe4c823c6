"""A running balance, to which nothing is added twice."""

import sys
from pathlib import Path

from batchwright import resumable
from batchwright.readers import csv_rows

folder = Path(sys.argv[1])
with resumable(
    "balance",
    csv_rows(folder / "sales.csv"),
    database=f"sqlite:///{folder}/shop.db",
    parameters={"day": "2026-11-22"},
    chunk_size=4,
) as loop:
    for row in loop:
        with loop.item():
            shop = f"s{int(row['id']) % 3}"
            cursor = loop.connection.cursor()
            cursor.execute("UPDATE balance SET total = total + ? WHERE shop = ?", (int(row["amount"]), shop))
