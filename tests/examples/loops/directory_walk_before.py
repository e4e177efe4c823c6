"""A line in a table for each file of a folder."""

import hashlib
import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
connection = sqlite3.connect(folder / "shop.db")
for path in sorted((folder / "documents").rglob("*.txt")):
    content = path.read_bytes()
    connection.execute(
        "INSERT INTO files VALUES (?, ?)", (str(path.relative_to(folder)), hashlib.sha256(content).hexdigest())
    )
connection.commit()
