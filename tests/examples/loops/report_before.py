"""Totals of one database into a table of another."""

import sqlite3
import sys
from pathlib import Path

folder = Path(sys.argv[1])
source, report = sqlite3.connect(folder / "source.db"), sqlite3.connect(folder / "shop.db")
for shop, total in source.execute("SELECT shop, sum(amount) FROM sales GROUP BY shop ORDER BY shop"):
    report.execute("INSERT INTO report VALUES (?, ?, 1)", (shop, total))
report.commit()
