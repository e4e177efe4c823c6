"""What a run says at its end, and `show` of it later: what it has done itself, and what of it anybody sees."""

from pathlib import Path

import pytest

JOBS = """
from pathlib import Path
from batchwright import Job, Skip, Step
from batchwright.writers import insert, upsert

HERE = Path(__file__).parent
DB = f"sqlite:///{HERE}/t.db"


def check(row):
    if row["id"] % 10 == 7 and not (HERE / "mended").exists():
        raise ValueError("a seven")
    return row


def rows(n):
    return [{"id": number} for number in range(n)]


def two(x: int) -> Job:
    load = Step("load", read=rows(40), process=check, write=upsert(DB, "t", key="id"), chunk_size=5, skip=Skip())
    return Job("two", load, Step("total", read=rows(3), write=upsert(DB, "totals", key="id")))


def staged() -> Job:
    return Job("staged", Step("load", read=rows(40), process=check, write=insert(DB, "s"), chunk_size=2, atomic=True))


def once() -> Job:
    write = insert(DB, "s")
    return Job("once", Step("load", read=rows(40), process=check, write=write, chunk_size=2, atomic="transaction"))
"""


@pytest.fixture
def made(shop):
    Path("made.py").write_text(JOBS)
    return shop


def summary(text: str) -> list[str]:
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if "(run " in line)
    return [line for line in lines[first + 1 :] if line.startswith("  ")]


def test_a_run_that_goes_on_counts_what_it_has_done_itself_and_says_what_there_is_in_all(made):
    made.call("run", "made.py:two", "--x", "1", "--limit", "20")
    said = summary(made.call("run", "made.py:two", "--x", "1").err)
    assert said[0] == "  read 23 = written 21 + filtered 0 + failed 2"
    assert said[1] == "  outputs 21, retried 0, rolled back 0 chunks"
    assert said[3] == "  in all, with what was done before: read 43 = written 39 + filtered 0 + failed 4"
    assert said[4].startswith("  failures: ")


def test_a_run_from_a_step_on_counts_that_step_and_names_no_failures_that_are_mended(made):
    assert made.call("run", "made.py:two", "--x", "1").code == 3
    again = ("run", "made.py:two", "--x", "1", "--from", "total", "--again")
    said = summary(made.call(*again).err)
    assert said[0] == "  read 3 = written 3 + filtered 0 + failed 0"
    assert said[-1].startswith("  failures: "), "they are open"
    made.mend()
    assert made.call("replay", "2").code == 0
    ended = made.call(*again)
    assert ended.code == 0
    assert summary(ended.err)[0] == "  read 3 = written 3 + filtered 0 + failed 0"
    assert "failures" not in ended.err


def test_an_atomic_step_that_fails_says_that_nothing_is_published_and_what_is_kept(made):
    ended = made.call("run", "made.py:staged")
    assert ended.code == 1
    assert "  load: exactly once, all or nothing" in ended.err
    kept = "nothing is published; 7 outputs are staged, and kept for the run that goes on"
    assert f"  load: {kept}" in summary(ended.err)
    assert f"; {kept}; mend it and run it again: run 1 goes on" in ended.err
    shown = made.call("show", "1").out
    assert "published    nothing; what is counted here is staged" in shown
    assert "load  nothing is published; 7 items are staged and kept; goes on at list item 8" in shown
    made.mend()
    assert "published" not in made.call("resume", "1").err
    assert "published" not in made.call("show", "2").out


def test_a_step_that_is_one_transaction_keeps_nothing(made):
    ended = made.call("run", "made.py:once")
    assert "  load: nothing is published, and nothing is kept" in summary(ended.err)
    shown = made.call("show", "1").out
    assert "published    nothing\n" in shown
    assert "begun, nothing is published: goes on at its start" in shown
