"""Load the flights that left New York in 2013, set broken records aside, and write a report a day.

    python examples/fetch_flights.py
    batchwright run examples/flights.py:flights --month 2

The one rule: a record that contradicts itself is a failure with its line, never a guess in the table.
"""

from calendar import monthrange
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from batchwright import DROP, Drop, Job, Skip, Step
from batchwright.readers import csv_rows, query
from batchwright.writers import csv_file, upsert

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "flights"

DAILY = """
    SELECT day,
           count(*) AS flights,
           sum(departed IS NULL) AS cancelled,
           round(avg(departure_delay), 1) AS mean_delay,
           max(departure_delay) AS worst_delay
    FROM flights
    WHERE day BETWEEN :first AND :last
    GROUP BY day
"""


def flights(
    month: Annotated[int | None, "only this month, 1 to 12"] = None,
    day: Annotated[date | None, "only this day"] = None,
    source: Annotated[Path, "the CSV file of flights"] = CACHE / "flights.csv",
    folder: Annotated[Path, "an existing folder for the database and the report"] = CACHE,
) -> Job:
    """Load flights into SQLite and write a report a day; without month and day, the whole year."""
    first, last = period(month, day)
    database = f"sqlite:///{quote(str(folder.absolute()))}/flights.db"
    load = Step(
        "load",
        read=csv_rows(source),
        process=partial(to_flight, first=first, last=last),
        write=upsert(database, "flights", key=("day", "carrier", "flight", "origin"), columns=COLUMNS),
        skip=Skip(on=ValueError, limit="1%"),
    )
    report = Step(
        "report",
        read=query(database, DAILY, {"first": first.isoformat(), "last": last.isoformat()}, key="day"),
        write=csv_file(folder / "daily.csv", columns=["day", "flights", "cancelled", "mean_delay", "worst_delay"]),
    )
    return Job("flights", load, report)


COLUMNS = {
    "day": "TEXT",
    "carrier": "TEXT",
    "flight": "INTEGER",
    "origin": "TEXT",
    "destination": "TEXT",
    "tail_number": "TEXT",
    "scheduled_departure": "INTEGER",
    "departed": "INTEGER",
    "departure_delay": "INTEGER",
    "arrived": "INTEGER",
    "arrival_delay": "INTEGER",
    "minutes_in_air": "INTEGER",
    "miles": "INTEGER",
}


def period(month: int | None, day: date | None) -> tuple[date, date]:
    """The first and the last day that are asked for."""
    if day is not None:
        return day, day
    if month is None:
        return date(2013, 1, 1), date(2013, 12, 31)
    if not 1 <= month <= 12:
        raise ValueError(f"month must be 1 to 12; got {month}")
    return date(2013, month, 1), date(2013, month, monthrange(2013, month)[1])


def to_flight(row: dict[str, str], *, first: date, last: date) -> dict[str, Any] | Drop:
    """A record as a row of the table; one outside the period is dropped. Raises ValueError for a contradiction."""
    day = date(int(row["year"]), int(row["month"]), int(row["day"]))
    if not first <= day <= last:
        return DROP
    departed, arrived, in_air = number(row["dep_time"]), number(row["arr_time"]), number(row["air_time"])
    if departed is not None and arrived is None:
        raise ValueError(f"departed at {clock(departed)} but has no arrival")
    if arrived is not None and in_air is None:
        raise ValueError(f"arrived at {clock(arrived)} but has no time in the air")
    return {
        "day": day.isoformat(),
        "carrier": row["carrier"],
        "flight": int(row["flight"]),
        "origin": row["origin"],
        "destination": row["dest"],
        "tail_number": None if row["tailnum"] == "NA" else row["tailnum"],
        "scheduled_departure": int(row["sched_dep_time"]),
        "departed": departed,
        "departure_delay": number(row["dep_delay"]),
        "arrived": arrived,
        "arrival_delay": number(row["arr_delay"]),
        "minutes_in_air": in_air,
        "miles": int(row["distance"]),
    }


def number(text: str) -> int | None:
    """A whole number; NA is None."""
    return None if text == "NA" else int(text)


def clock(time: int) -> str:
    """517 as 05:17."""
    return f"{time // 100:02}:{time % 100:02}"
