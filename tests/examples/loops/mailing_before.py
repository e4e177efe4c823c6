"""A mail to each customer."""

import json
import sys
from pathlib import Path

folder = Path(sys.argv[1])


def send(address: str) -> None:
    with (folder / "outbox.txt").open("a") as outbox:
        outbox.write(f"{address}\n")


for customer in json.loads((folder / "customers.json").read_text()):
    if customer["wants_mail"]:
        send(customer["address"])
