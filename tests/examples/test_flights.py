"""The main example: nine records whose counts can be checked by eye, and 20,000 real ones with a kill in between."""

import sqlite3
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from examples.fetch_flights import fetch_flights
from examples.flights import flights

from batchwright import Job, JobResult, Status, run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

RECORDS = """\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour
2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z
2013,1,1,533,529,4,850,830,20,UA,1714,N24211,LGA,IAH,227,1416,5,29,2013-01-01T10:00:00Z
2013,1,1,2016,1930,46,NA,2220,NA,EV,4204,N14168,EWR,OKC,NA,1325,19,30,2013-01-02T00:00:00Z
2013,1,1,1525,1530,-5,1934,1805,NA,MQ,4525,N719MQ,LGA,XNA,NA,1147,15,30,2013-01-01T20:00:00Z
2013,1,1,NA,1630,NA,NA,1815,NA,EV,4308,N18120,EWR,RDU,NA,416,16,30,2013-01-01T21:00:00Z
2013,1,2,NA,600,NA,NA,901,NA,B6,125,NA,JFK,FLL,NA,1069,6,0,2013-01-02T11:00:00Z
2013,1,2,42,2359,43,518,442,36,B6,707,N580JB,JFK,SJU,189,1598,23,59,2013-01-03T04:00:00Z
2013,2,1,456,500,-4,652,648,4,US,1117,N197UW,EWR,CLT,98,529,5,0,2013-02-01T10:00:00Z
2013,2,1,520,525,-5,816,820,-4,UA,1018,N24211,EWR,IAH,236,1400,5,25,2013-02-01T10:00:00Z
"""

REPORT = """\
day,flights,cancelled,mean_delay,worst_delay
2013-01-01,3,1,3.0,4
2013-01-02,2,1,43.0,43
2013-02-01,2,0,-4.5,-4
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text(RECORDS)
    return path


def test_every_record_is_in_the_table_or_a_failure(source: Path):
    result = flown(source)
    load, report = result.steps
    assert (load.counts.read, load.counts.written, load.counts.filtered, load.counts.failed) == (9, 7, 0, 2)
    assert report.counts.written == 3
    assert result.status is Status.COMPLETED_WITH_FAILURES
    assert rows(source.parent, "SELECT count(*) FROM flights") == [(7,)]


def test_the_report_has_a_line_a_day(source: Path):
    flown(source)
    assert (source.parent / "daily.csv").read_text() == REPORT


def test_a_record_that_contradicts_itself_is_kept_with_its_line_and_reason(source: Path):
    kept = [(failure.place.line, failure.error) for failure in flown(source).failures]
    assert [line for line, _ in kept] == [4, 5]
    assert "departed at 20:16 but has no arrival" in kept[0][1]
    assert "arrived at 19:34 but has no time in the air" in kept[1][1]


def test_a_missing_value_is_null_and_a_delay_a_number(source: Path):
    flown(source)
    found = rows(source.parent, "SELECT tail_number, departed, departure_delay FROM flights WHERE carrier = 'B6'")
    assert sorted(found, key=str) == [("N580JB", 42, 43), (None, None, None)]


def test_a_month_drops_the_others(source: Path):
    load, report = flown(source, month=2).steps
    assert (load.counts.read, load.counts.written, load.counts.filtered, load.counts.failed) == (9, 2, 7, 0)
    assert report.counts.read == 1


def test_a_day_is_a_day(source: Path):
    flown(source, day=date(2013, 1, 2))
    assert (source.parent / "daily.csv").read_text().splitlines()[1:] == ["2013-01-02,2,1,43.0,43"]


def test_a_finished_month_is_not_done_again(source: Path):
    flown(source, month=1)
    again = flown(source, month=1)
    assert again.already_complete


def test_a_month_that_does_not_exist_is_refused(source: Path):
    with pytest.raises(ValueError, match="month must be 1 to 12; got 13"):
        flown(source, month=13)


def test_the_demo_proves_that_a_killed_run_ends_like_an_uninterrupted_one(tmp_path: Path):
    try:
        fetch_flights()
    except RuntimeError as error:
        pytest.skip(f"the data cannot be had here: {error}")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py", "--rows", "20000", "--folder", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGKILL" in done.stdout
    assert "NO" not in done.stdout.split()
    assert all(len(line) <= 80 for line in done.stdout.partition("The proof.")[2].splitlines()[1:])


def flown(source: Path, **period: object) -> JobResult:
    job = Job.of(flights, source=source, folder=source.parent, **period)
    # Two of nine are more than the job allows; of the 336,776 they are 0.35 %.
    return run(job, ledger=source.parent / "ledger.db", max_failures=2)


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "flights.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
