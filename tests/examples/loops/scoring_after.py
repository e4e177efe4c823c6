"""A score for each text; what cannot be scored is kept with its error."""

import sys
from pathlib import Path

from batchwright import Skip, resumable
from batchwright.readers import json_lines

folder = Path(sys.argv[1])


def score(text: str) -> float:
    if not text:
        raise ValueError("there is nothing to score")
    return sum(map(ord, text)) % 97 / 97


with resumable(
    "scoring",
    json_lines(folder / "texts.jsonl"),
    database=f"sqlite:///{folder}/shop.db",
    parameters={"model": "v3"},
    chunk_size=5,
    skip=Skip(on=ValueError, limit=50),
) as loop:
    for document in loop:
        with loop.item():
            loop.connection.execute("INSERT INTO scores VALUES (?, -1)", (document["id"],))
            loop.connection.execute(
                "UPDATE scores SET score = ? WHERE id = ?", (score(document["text"]), document["id"])
            )
