"""Orders and their lines, out of one file into two tables: both or neither."""

import sys
from pathlib import Path

from batchwright import resumable
from batchwright.readers import json_lines

folder = Path(sys.argv[1])
with resumable(
    "split",
    json_lines(folder / "orders.jsonl"),
    database=f"sqlite:///{folder}/shop.db",
    parameters={"day": 22},
    chunk_size=4,
) as loop:
    for order in loop:
        with loop.item():
            loop.connection.execute("INSERT INTO orders VALUES (?, ?)", (order["id"], len(order["lines"])))
            loop.connection.executemany(
                "INSERT INTO order_lines VALUES (?, ?)", [(order["id"], amount) for amount in order["lines"]]
            )
