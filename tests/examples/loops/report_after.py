"""Totals of one database into a table of another."""

import sys
from pathlib import Path

from batchwright import resumable
from batchwright.readers import query

folder = Path(sys.argv[1])
totals = query(
    f"sqlite:///{folder}/source.db", "SELECT shop, sum(amount) AS total FROM sales GROUP BY shop", key="shop"
)
with resumable(
    "report", totals, database=f"sqlite:///{folder}/shop.db", parameters={"month": "2026-11"}, chunk_size=2
) as loop:
    for row in loop:
        with loop.item():
            loop.connection.execute(
                "INSERT INTO report VALUES (:shop, :total, 1)", {"shop": row["shop"], "total": row["total"]}
            )
