"""A line in a table for each file of a folder, none twice."""

import hashlib
import sys
from pathlib import Path

from batchwright import resumable

folder = Path(sys.argv[1])
paths = sorted(str(path) for path in (folder / "documents").rglob("*.txt"))
with resumable(
    "directory-walk", paths, database=f"sqlite:///{folder}/shop.db", parameters={"of": "2026-11"}, chunk_size=3
) as loop:
    for path in loop:
        with loop.item():
            content = Path(path).read_bytes()
            loop.connection.execute(
                "INSERT INTO files VALUES (?, ?)",
                (str(Path(path).relative_to(folder)), hashlib.sha256(content).hexdigest()),
            )
