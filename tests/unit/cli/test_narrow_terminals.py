"""What the reading commands show on a terminal: one line a row where there is room, and no broken word."""

import re
import sys

import pytest

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22")


@pytest.fixture
def after_a_run(shop):
    shop.call(*SALES)
    return shop


def on_a_terminal(shop, monkeypatch, columns: int, *command: str) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    return shop.call(*command).out.splitlines()


def test_status_keeps_one_line_a_run_on_a_terminal_of_80_columns(after_a_run, monkeypatch):
    after_a_run.call("replay", "1")
    after_a_run.call("run", "jobs.py:sales", "--day", "2026-11-23", "--n", "1")
    lines = on_a_terminal(after_a_run, monkeypatch, 80, "status")
    assert [line.split()[:3] for line in lines] == [
        ["run", "job", "status"],
        ["3", "sales", "COMPLETED"],
        ["day=2026-11-23", "n=1"],
        ["2", "sales", "COMPLETED*"],
        ["replay", "of", "run"],
        ["1", "sales", "COMPLETED*"],
        ["day=2026-11-22"],
        ["*", "with", "failures"],
    ]
    assert re.search(r"COMPLETED\* +\d\d-\d\d \d\d:\d\d +20 +18 +0 +2$", lines[5])
    assert lines[4] == "     replay of run 1, day=2026-11-22"


def test_parameters_that_do_not_fit_are_cut_on_a_wider_terminal(shop, monkeypatch):
    shop.call("run", "jobs.py:long", "--text", "word " * 60)
    head, run = on_a_terminal(shop, monkeypatch, 150, "status")
    assert head.split()[:4] == ["run", "job", "parameters", "status"]
    assert "text=word word" in run
    assert "…  COMPLETED" in run
    assert len(run) <= 150
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert "word " * 59 in shop.call("status").out, "on a pipe nothing is cut"


def test_causes_on_a_narrow_terminal_have_their_example_below(after_a_run, monkeypatch):
    head, cause, example = on_a_terminal(after_a_run, monkeypatch, 80, "failures")
    assert head.split() == ["count", "open", "step", "phase", "error", "first", "at"]
    assert cause.split()[:5] == ["2", "2", "load", "process", "ValueError"]
    assert example == r"     =row 7 [red]\x1b[31m is wrong"


LONG_JOB = """
from batchwright import Job, Skip, Step
from batchwright.readers import csv_rows

def convert(row):
    raise ArithmeticError(f"the amount {row['amount']} of this invoice is no number that can be booked at all")

def load() -> Job:
    read = csv_rows("invoices-of-the-second-half-year-2026-11.csv")
    return Job("load", Step("read-invoices", read=read, process=convert, write=len, skip=Skip()))
"""


def test_failures_on_a_narrow_terminal_are_three_lines_each_and_no_word_is_broken(shop, monkeypatch):
    rows = "".join(
        f"{number},{number}-00-of-the-customer-with-the-longest-of-all-names\n" for number in range(50_000, 50_003)
    )
    (shop.folder / "invoices-of-the-second-half-year-2026-11.csv").write_text(f"id,amount\n{rows}")
    (shop.folder / "long.py").write_text(LONG_JOB)
    monkeypatch.delitem(sys.modules, "long", raising=False)
    shop.call("run", "long.py:load")
    head, *lines = on_a_terminal(shop, monkeypatch, 80, "failures", "--all")
    assert head.split() == ["item", "place", "step", "phase", "state"]
    assert len(lines) == 9
    assert re.fullmatch(r" +1 invoices-of-the-…d-half-year-2026-11\.csv line 2 +read-invoices process open", lines[0])
    assert lines[1].startswith("     ArithmeticError: the amount 50000-00-of-the-customer")
    assert lines[2].startswith('     {"id": "50000", "amount": ')
    shown = on_a_terminal(shop, monkeypatch, 80, "show", "1")
    assert any(line.startswith("     ArithmeticError: the amount ") for line in shown)
    assert all(len(line) <= 80 for line in lines)
    wide = on_a_terminal(shop, monkeypatch, 300, "failures", "--all")
    assert len(wide) == 4
