"""The command to type next: one table for every status and every kind of job, and each named command can be called."""

import re
import shlex
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from batchwright.cli.next_commands import Situation, from_step_command, next_commands
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.execution import JobExecution, Origin
from batchwright.model.status import Status


def execution(status: Status, **changes) -> JobExecution:
    settings = {
        "origin": Origin(str(Path("sales.py").absolute()), "daily"),
        "parameters": {"day": date(2026, 11, 22), "dry_run": False, "names": ["a b", "c"], "shop": None},
        **changes,
    }
    return JobExecution(12, InstanceKey("sales", "0"), 1, status, datetime(2026, 11, 22, tzinfo=UTC), **settings)


def after(run: JobExecution, open_failures: int = 0, ledger: Path | None = None, **more) -> list[str]:
    return next_commands(Situation(run, open_failures, **more), ledger)


RUN = "batchwright run sales.py:daily --day 2026-11-22 --no-dry-run --names 'a b' --names c"


def test_after_a_clean_end_there_is_nothing_to_do():
    assert after(execution(Status.COMPLETED)) == []


def test_failures_are_looked_at_and_replayed_once_the_run_is_complete():
    complete = execution(Status.COMPLETED_WITH_FAILURES)
    assert after(complete, 3) == ["batchwright failures 12", "batchwright replay 12"]
    some = execution(Status.COMPLETED_WITH_FAILURES, definition={"replays": ["load"]})
    assert after(some, 3, open_steps={"load"}) == ["batchwright failures 12", "batchwright replay 12"]
    assert after(some, 3, open_steps={"staged"}) == ["batchwright failures 12"]
    assert after(execution(Status.COMPLETED_WITH_FAILURES, origin=None), 3) == ["batchwright failures 12"]


@pytest.mark.parametrize("status", [Status.FAILED, Status.STOPPED, Status.LOST])
def test_a_run_that_did_not_end_well_is_gone_on_with(status):
    assert after(execution(status)) == ["batchwright resume 12"]
    assert after(execution(status), 3) == ["batchwright resume 12", "batchwright failures 12"]


@pytest.mark.parametrize("status", [Status.ABANDONED, Status.COMPENSATED])
def test_what_is_given_up_or_undone_is_begun_anew(status):
    assert after(execution(status), 3) == [f"{RUN} --again"]


def test_to_begin_anew_what_adds_again_takes_a_yes_and_says_so():
    twice = "  # what it added is added a second time"
    adds = {"adds": ["book", "pay"], "compensates": ["pay"]}
    assert after(execution(Status.ABANDONED, definition=adds)) == [f"{RUN} --again --yes{twice}"]
    assert after(execution(Status.COMPENSATED, definition=adds)) == [f"{RUN} --again --yes{twice}"]
    undone = {"adds": ["pay"], "compensates": ["pay"]}
    assert after(execution(Status.COMPENSATED, definition=undone)) == [f"{RUN} --again"]
    assert after(execution(Status.ABANDONED, definition=adds, origin=None)) == [
        "from Python: run(sales, again=True, yes=True)"
    ]
    staged = {"adds": ["book"], "atomic": {"book": True}}
    assert after(execution(Status.ABANDONED, definition=staged, steps=("book",))) == [f"{RUN} --again"]


def test_steps_that_are_run_again_take_a_yes_only_if_one_of_them_adds():
    run = execution(Status.COMPLETED, steps=("load", "sum", "mail"), definition={"adds": ["load"]})
    assert from_step_command(run, ("sum", "mail"), None) == f"{RUN} --from sum --again"
    assert from_step_command(run, ("load", "sum"), None).endswith(
        "--from load --again --yes  # what it added is added a second time"
    )
    by_hand = execution(Status.COMPLETED, origin=None, definition={"adds": ["load"]})
    assert from_step_command(by_hand, ("sum",), None) == "from Python: run(sales, from_step='sum', again=True)"


def test_a_rollback_that_failed_is_gone_on_with():
    assert after(execution(Status.COMPENSATION_FAILED)) == ["batchwright rollback 12"]


def test_an_older_run_names_the_newer_one():
    assert after(execution(Status.FAILED), 3, newer=14) == ["batchwright show 14"]


def test_a_running_job_can_be_stopped():
    assert after(execution(Status.RUNNING)) == ["batchwright stop 12"]


def test_the_ledger_is_named_where_it_would_not_be_found():
    assert after(execution(Status.STOPPED, parameters={}), 0, Path("/data/my ledger.db")) == [
        "batchwright resume 12 --ledger '/data/my ledger.db'"
    ]


def test_secrets_that_have_to_be_given_again_stand_behind_the_command():
    run = execution(Status.STOPPED, parameters={}, definition={"secrets": ["api_key"]})
    assert after(run) == ["batchwright resume 12  # needs BATCHWRIGHT_API_KEY"]


def test_a_job_started_from_python_names_the_call():
    assert after(execution(Status.FAILED, origin=None)) == [
        "run it again from Python, with the same parameters: run(sales)"
    ]
    assert after(execution(Status.ABANDONED, origin=None)) == ["from Python: run(sales, again=True)"]
    script = Origin(str(Path("loop.py").absolute()), "")
    assert after(execution(Status.ABANDONED, origin=script)) == [
        "run the script with resumable(…, again=True): loop.py"
    ]


WORK = """
import os, signal
from pathlib import Path
from typing import Annotated
from batchwright import Job, Secret, Skip, Step
from batchwright.writers import csv_file, effects, file_set, insert, upsert

HERE = Path(__file__).parent
DB = f"sqlite:///{HERE}/t.db"


def check(row):
    if row["id"] == 3 and not (HERE / "mended").exists():
        mode = (HERE / "mode").read_text()
        if mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise (RuntimeError if mode == "fail" else ValueError)("three")
    return row


def charge(output, key):
    return {"ok": key}


def uncharge(effect):
    if not (HERE / "mended").exists() and (HERE / "mode").read_text() == "stuck":
        raise RuntimeError("the bank is closed")


WRITERS = {
    "table": lambda: dict(write=upsert(DB, "t", key="id")),
    "rows": lambda: dict(write=insert(DB, "rows")),
    "atomic": lambda: dict(write=upsert(DB, "a", key="id"), atomic=True),
    "file": lambda: dict(write=csv_file(HERE / "out.csv")),
    "files": lambda: dict(write=file_set(HERE / "set", file="{id}.csv", form=csv_file)),
    "calls": lambda: dict(write=lambda rows: None),
    "effects": lambda: dict(write=effects(charge), compensate=uncharge),
}


def work(kind: str, token: Annotated[str, Secret] = "") -> Job:
    rows = [{"id": number} for number in range(6)]
    return Job(kind, Step("load", read=rows, process=check, chunk_size=2, skip=Skip(on=ValueError), **WRITERS[kind]()))
"""

ENDS = ("failures", "fail", "kill", "limit", "abandoned", "rolled back", "stuck")
KINDS = ("table", "rows", "atomic", "file", "files", "calls", "effects")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_that_is_named_can_be_called(kind, end, shop, monkeypatch):
    """Over the whole table: each way for work to end, with each kind of target, wherever a next command is named."""
    monkeypatch.setenv("BATCHWRIGHT_TOKEN", "t0ken")
    monkeypatch.delitem(sys.modules, "kinds", raising=False)  # in one process a job file is loaded once
    if end in ("rolled back", "stuck") and kind != "effects":
        pytest.skip("only effects are rolled back")
    Path("kinds.py").write_text(WORK)
    Path("mode").write_text({"abandoned": "fail", "rolled back": "fail"}.get(end, end))
    told = _end_so(shop, kind, end)
    named = _named(told.err) | _named(shop.call("show", "1").err) | _named(shop.call("failures", "1").err)
    named |= set(shop.call("list", "--json").document["jobs"][0]["next"]) | _named(shop.call("status").err)
    assert (end == "failures" or kind == "files") or named
    Path("mended").touch()
    for text in sorted(named, key=lambda text: ("failures" not in text, "show" not in text)):
        words = shlex.split(text, comments=True)
        assert words[0] == "batchwright", text
        ended = shop.call(*words[1:], *(["--yes"] if words[1] in ("abandon", "rollback") else []))
        # After the first command that went on there is nothing to go on with.
        done = "already complete" in ended.err or "is COMPLETED" in ended.err
        assert ended.code in (0, 3) or done, (text, ended.err)


def _end_so(shop, kind: str, end: str):
    run = ("run", "kinds.py:work", "--kind", kind)
    if end == "kill":
        return shop.spawn(*run)
    ended = shop.call(*run, *(["--limit", "2"] if end in ("limit", "stuck") else []))
    if end == "abandoned":
        return shop.call("abandon", "1", "--yes")
    if end in ("rolled back", "stuck"):
        ended = shop.call("rollback", "1", "--yes")
        assert ended.code == (1 if end == "stuck" else 0)
    return ended


_NAMED = re.compile(r"(?:next: |go on with: |to begin anew: )(batchwright .*?)(?: \(what follows.*)?$", re.MULTILINE)


def _named(text: str) -> set[str]:
    return {command for command in _NAMED.findall(text) if not command.startswith("batchwright,")}


def test_a_secret_that_the_run_had_has_to_be_given_again(shop, monkeypatch):
    monkeypatch.delenv("BATCHWRIGHT_TOKEN", raising=False)
    ended = shop.call("run", "jobs.py:fetch", "--token", "t0ps3cret", "--limit", "1", "--n", "2")
    assert ended.err.splitlines()[-1] == "next: batchwright resume 1  # needs BATCHWRIGHT_TOKEN"
    for words in (("resume", "1"), ("replay", "1"), ("rollback", "1")):
        ended = shop.call(*words)
        assert ended.code == 2
        assert "the secret --token has to be given again; it is never stored; set BATCHWRIGHT_TOKEN" in ended.err
    assert shop.call("show", "1").code == 0
    monkeypatch.setenv("BATCHWRIGHT_TOKEN", "t0ps3cret")
    assert shop.call("resume", "1").code == 0
