"""The pages of an interface into a table: they are asked for again from the start, and written once."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from batchwright import resumable

folder = Path(sys.argv[1])


def orders() -> Iterator[dict[str, Any]]:
    page = "page-0.json"
    while page:
        answer = json.loads((folder / page).read_text())
        yield from answer["orders"]
        page = answer["next"]


with resumable(
    "api-pages", orders, database=f"sqlite:///{folder}/shop.db", parameters={"since": "2026-11-22"}, chunk_size=3
) as loop:
    for order in loop:
        with loop.item():
            loop.connection.execute("INSERT INTO orders VALUES (?, ?)", (order["id"], order["total"]))
