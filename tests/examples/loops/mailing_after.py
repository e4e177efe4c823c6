"""A mail to each customer: the one in hand when the process dies may get a second one, nobody else."""

import json
import sys
from pathlib import Path

from batchwright import resumable

folder = Path(sys.argv[1])


def send(address: str) -> None:
    with (folder / "outbox.txt").open("a") as outbox:
        outbox.write(f"{address}\n")


customers = json.loads((folder / "customers.json").read_text())
with resumable("mailing", customers, parameters={"night": "2026-11-22"}) as loop:
    for customer in loop:
        with loop.item():
            if customer["wants_mail"]:
                send(customer["address"])
