"""Orders and their lines, out of one file into two tables."""

import json
import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
connection = sqlite3.connect(folder / "shop.db")
for line in (folder / "orders.jsonl").read_text().splitlines():
    order = json.loads(line)
    connection.execute("INSERT INTO orders VALUES (?, ?)", (order["id"], len(order["lines"])))
    for amount in order["lines"]:
        connection.execute("INSERT INTO order_lines VALUES (?, ?)", (order["id"], amount))
connection.commit()
