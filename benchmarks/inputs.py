"""The input files: made once, the same in every run, kept in `benchmarks/data` (not in the repository).

The one rule: a file is complete or not there.
"""

import random
from pathlib import Path

DATA = Path(__file__).parent / "data"

HEADER = "id,name,email,amount,day"

BAD_EVERY = 1_000


def sales_csv(rows: int, amount: str = "n/a") -> Path:
    """A file of so many sales. Each thousandth has this amount: `n/a` is no number, `-1` breaks the table's rule."""
    path = DATA / f"sales-{rows}-{'bad' if amount == 'n/a' else amount}.csv"
    if not path.exists():
        DATA.mkdir(exist_ok=True)
        begun = path.with_suffix(".part")
        with begun.open("w", encoding="utf-8", newline="") as file:
            file.write(HEADER + "\n")
            file.writelines(_lines(rows, amount))
        begun.rename(path)
    return path


def warm(path: Path) -> None:
    """Read a file once, so that the machine's file cache has it for everybody."""
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass


def _lines(rows: int, amount: str) -> list[str]:
    dice = random.Random(7)
    names = ["Ada Lovelace", "Grace Hopper", " Edsger Dijkstra", "Barbara Liskov ", "Jürgen Groß", "Frances Allen"]
    lines = []
    for number in range(1, rows + 1):
        name, price = dice.choice(names), f"{dice.randrange(1, 1_000_000) / 100:.2f}"
        shown = amount if number % BAD_EVERY == BAD_EVERY // 2 else price
        mail = f" User.{number}@Example.COM" if number % 3 else f"User.{number}@Example.com "
        lines.append(f"{number},{name},{mail},{shown},2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}\n")
    return lines
