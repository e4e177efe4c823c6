"""Addresses mended in place, page by page of the key."""

import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
connection = sqlite3.connect(folder / "shop.db")
last = -1
while page := connection.execute(
    "SELECT id, street FROM addresses WHERE id > ? ORDER BY id LIMIT 5", (last,)
).fetchall():
    for number, street in page:
        connection.execute("UPDATE addresses SET street = ? WHERE id = ?", (street + "!", number))
        last = number
    connection.commit()
