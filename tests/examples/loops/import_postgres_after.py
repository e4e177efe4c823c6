"""JSON Lines into PostgreSQL, each line once."""

import sys
from pathlib import Path

from batchwright import resumable
from batchwright.readers import json_lines

folder, url = Path(sys.argv[1]), sys.argv[2]
with resumable(
    "import", json_lines(folder / "texts.jsonl"), database=url, parameters={"day": "2026-11-22"}, chunk_size=4
) as loop:
    for document in loop:
        with loop.item():
            loop.connection.execute("INSERT INTO texts VALUES (%s, %s)", (document["id"], document["text"]))
