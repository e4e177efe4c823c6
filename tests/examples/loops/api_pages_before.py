"""The pages of an interface into a table."""

import json
import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
connection = sqlite3.connect(folder / "shop.db")
page = "page-0.json"
while page:
    answer = json.loads((folder / page).read_text())
    for order in answer["orders"]:
        connection.execute("INSERT INTO orders VALUES (?, ?)", (order["id"], order["total"]))
    page = answer["next"]
connection.commit()
