"""JSON Lines into PostgreSQL."""

import json
import sys
from pathlib import Path

import psycopg

folder, url = Path(sys.argv[1]), sys.argv[2]
with psycopg.connect(url) as connection:
    for line in (folder / "texts.jsonl").read_text().splitlines():
        document = json.loads(line)
        connection.execute("INSERT INTO texts VALUES (%s, %s)", (document["id"], document["text"]))
