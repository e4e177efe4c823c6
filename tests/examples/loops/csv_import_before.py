"""A CSV file into a table without a key."""

import csv
import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
connection = sqlite3.connect(folder / "shop.db")
with (folder / "sales.csv").open(newline="") as file:
    for row in csv.DictReader(file):
        connection.execute("INSERT INTO sales VALUES (?, ?)", (int(row["id"]), int(row["amount"])))
connection.commit()
