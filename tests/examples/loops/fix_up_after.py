"""Addresses mended in place, which must not happen twice."""

import sys
from pathlib import Path

from batchwright import resumable
from batchwright.readers import query

folder = Path(sys.argv[1])
shop = f"sqlite:///{folder}/shop.db"
# What the loop changes is read from a list of its own: `street` is not among the columns that are read.
rows = query(shop, "SELECT id FROM addresses", key="id", page_rows=5)
with resumable("fix-up", rows, database=shop, parameters={"ticket": 17}, chunk_size=4) as loop:
    for row in loop:
        with loop.item():
            cursor = loop.connection.execute("SELECT street FROM addresses WHERE id = ?", (row["id"],))
            (street,) = cursor.fetchone()
            loop.connection.execute("UPDATE addresses SET street = ? WHERE id = ?", (street + "!", row["id"]))
