"""What `replay` chooses, ignores and leaves, and how a run reads whose failures are closed."""

import pytest

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22")


@pytest.fixture
def after_a_run(shop):
    shop.call(*SALES)
    return shop


@pytest.fixture
def after_a_replay(after_a_run):
    after_a_run.mend()
    after_a_run.call("replay", "1")
    return after_a_run


def test_a_run_whose_failures_are_all_closed_reads_as_complete(after_a_replay):
    _, _, run = after_a_replay.call("status").out.splitlines()
    assert " COMPLETED " in run
    assert (
        "COMPLETED_WITH_FAILURES (COMPLETED now: each failure was replayed or ignored)"
        in after_a_replay.call("show").out
    )
    found = after_a_replay.call("show", "--json").document
    assert (found["status"], found["status_now"]) == ("COMPLETED_WITH_FAILURES", "COMPLETED")
    told = after_a_replay.call(*SALES, "--json").document
    assert (told["already_complete"], told["status"]) == (True, "COMPLETED")


def test_a_replay_shows_its_own_counts(after_a_replay):
    found = after_a_replay.call("show", "2", "--json").document
    assert (found["kind"], found["counts"]["read"], found["counts"]["written"]) == ("replay", 2, 2)


def test_failures_are_chosen_by_their_fields_to_be_shown_ignored_and_replayed(after_a_run):
    one = ("--where", "item=8")
    assert len(after_a_run.call("failures", "1", "--all", *one).out.splitlines()) == 2
    assert after_a_run.call("failures", "1", *one, "--json").document["causes"][0]["count"] == 1
    ended = after_a_run.call("replay", "1", *one, "--ignore", "test data")
    assert (ended.code, ended.err.splitlines()[-1]) == (0, "load: 1 ignored")
    assert after_a_run.call("replay", "1", "--dry-run", *one).err.splitlines()[-1] == "nothing to replay in run 1"
    after_a_run.mend()
    ended = after_a_run.call("replay", "1", "--dry-run")
    assert ended.err.splitlines()[-1] == "load: 1 would be tried, 0 still open"
    assert after_a_run.call("replay", "1", "--reopen").err.splitlines()[-1] == "load: 1 open again"
    ended = after_a_run.call("replay", "1", "--where", "item")
    assert (ended.code, "write error_type=ValueError" in ended.err) == (2, True)


def test_from_needs_again(after_a_run):
    ended = after_a_run.call(*SALES, "--from", "load")
    assert ended.code == 2
    assert "--from STEP --again" in ended.err


def test_show_tells_what_is_ignored_from_what_is_replayed(after_a_run):
    after_a_run.call("replay", "1", "--where", "item=8", "--ignore", "test data")
    assert "(0 replayed, 1 ignored, 1 open)" in after_a_run.call("show", "1").out
    after_a_run.mend()
    after_a_run.call("replay", "1")
    assert "(1 replayed, 1 ignored, 0 open)" in after_a_run.call("show", "1").out


def test_lines_mended_to_another_length_are_led_to_what_works(shop):
    """The line itself says what to do, and so does the last one; what it names asks, and shows all of them."""
    (shop.folder / "in.csv").write_text("id\n" + "".join(f"{n}\n" if n % 2 else "bad\n" for n in range(20)))
    (shop.folder / "lines.py").write_text(LINES)
    assert shop.call("run", "lines.py:lines").code == 3
    (shop.folder / "in.csv").write_text("id\n" + "".join(f"{n:09d}\n" for n in range(20)))
    ended = shop.call("replay", "1")
    assert ended.code == 3
    assert "put the file back" not in ended.err
    assert ended.err.count("--accept-changed shows what is there now and takes it") == 5
    assert "next: batchwright replay 1 --accept-changed (shows what stands there now, and asks)" in ended.err
    for words in (("--dry-run",), ()):
        seen = shop.call("replay", "1", "--accept-changed", *words)
        assert seen.err.count("another item stands there now; then") == 10
    assert "nobody can be asked here; say yes with --yes" in seen.err
    assert shop.call("replay", "1", "--accept-changed", "--yes").code == 0


LINES = """
from pathlib import Path
from batchwright import Job, Skip, Step
from batchwright.readers import csv_rows
from batchwright.writers import insert

HERE = Path(__file__).parent


def lines() -> Job:
    write = insert(f"sqlite:///{HERE}/lines.db", "t")
    read = csv_rows(HERE / "in.csv")
    return Job("lines", Step("load", read=read, process=number, write=write, skip=Skip(on=ValueError)))


def number(row):
    return {"id": int(row["id"])}
"""
