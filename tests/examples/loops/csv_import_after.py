"""A CSV file into a table without a key, from the last committed chunk on."""

import sys
from pathlib import Path

from batchwright import resumable
from batchwright.readers import csv_rows

folder = Path(sys.argv[1])
with resumable(
    "csv-import",
    csv_rows(folder / "sales.csv"),
    database=f"sqlite:///{folder}/shop.db",
    parameters={"day": "2026-11-22"},
    chunk_size=4,
) as loop:
    for row in loop:
        with loop.item():
            loop.connection.execute("INSERT INTO sales VALUES (?, ?)", (int(row["id"]), int(row["amount"])))
