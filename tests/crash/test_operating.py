"""Pruning, giving up and going on, killed before any line of ours and done again."""

import os
import random
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.crash.commands import KILLED

from batchwright import Job, Skip, Status, Step, abandon, prune, resume, run
from batchwright.engine import abandon_job as engine
from batchwright.engine import close_lost as closing_lost
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.model.errors import AbandonedError, GroundChangedError, JobFailedError
from batchwright.testing.crash_points import crash_after
from batchwright.writers import insert, text_file

KILLS = int(os.environ.get("BATCHWRIGHT_OPERATING_KILLS", "25"))
SEED = int(os.environ.get("BATCHWRIGHT_SEED", random.SystemRandom().randrange(1_000_000)))
PACKAGE = str(Path(sys.modules["batchwright"].__file__).parent)

Action = Callable[[Path], object]


def a_job(folder: Path, day: int = 1, failing: int | None = None) -> Job:
    def check(number: int) -> str:
        if number == failing:
            raise OSError("not yet")
        if number == 3:
            raise ValueError("never")
        return str(number)

    rows = [{"n": number} for number in range(6)]
    load = Step("load", read=rows, write=insert(f"sqlite:///{folder}/out.db", "t"), chunk_size=2)
    text = text_file(folder / f"{day}.txt")
    lines = Step("lines", read=range(8), process=check, write=text, chunk_size=2, skip=Skip(on=ValueError))
    return Job("job", load, lines, parameters={"day": day})


def ledger(folder: Path) -> Path:
    return folder / ".batchwright" / "ledger.db"


def killed_anywhere(folder: Path, action: Action) -> Iterator[None]:
    """The folder as it was, then the action killed in it, each time at another line of ours; it stays where it is."""
    template = folder.with_name("template")
    shutil.copytree(folder, template)
    lines, chance, kills = lines_of(action, folder), random.Random(SEED), 0
    for number in range(KILLS):
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        at = 1 + (lines * number + chance.randrange(lines)) // KILLS
        if in_child(lambda at=at: (crash_after(at), action(folder))) == KILLED:
            kills += 1
            yield
    assert kills > KILLS // 2, f"seed {SEED}"


def in_child(call: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            call()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def lines_of(action: Action, folder: Path) -> int:
    """How many lines of ours the action takes."""

    def count() -> None:
        seen = [0]

        def inside(_frame, event, _argument):
            seen[0] += event == "line"
            return inside

        sys.settrace(lambda frame, *_: inside if frame.f_code.co_filename.startswith(PACKAGE) else None)
        action(folder)
        sys.settrace(None)
        (folder / "lines").write_text(str(seen[0]))

    assert in_child(count) == 0
    found = int((folder / "lines").read_text())
    (folder / "lines").unlink()
    return found


def record(folder: Path) -> dict[str, list[tuple]]:
    with closing(sqlite3.connect(ledger(folder))) as connection:
        return {
            "runs": connection.execute("SELECT id, lap, status FROM batchwright_job_executions ORDER BY id").fetchall(),
            "steps": connection.execute("SELECT run, step FROM batchwright_step_executions ORDER BY id").fetchall(),
            "failures": connection.execute(
                "SELECT parameters_hash, lap, ordinal FROM batchwright_failures ORDER BY 1, 2, 3"
            ).fetchall(),
            "checkpoints": connection.execute(
                "SELECT parameters_hash, lap, step FROM batchwright_checkpoints ORDER BY 1, 2, 3"
            ).fetchall(),
            "files": [(path.name,) for path in sorted(folder.glob(".batchwright/*.jsonl"))],
        }


def prune_all(folder: Path) -> None:
    prune(before=datetime.now(UTC) + timedelta(days=1), ledger=ledger(folder), with_failures=True)


def test_a_prune_that_is_killed_has_forgotten_nothing_that_counts_and_the_next_one_does_the_rest(tmp_path, folder):
    for day in (1, 2, 3):
        for again in (False, True):
            run(a_job(folder, day), ledger=ledger(folder), again=again, yes=True)
    before = record(folder)
    expected = tmp_path / "expected"
    shutil.copytree(folder, expected)
    prune_all(expected)
    whole = record(expected)
    assert [found[0] for found in whole["runs"]] == [2, 4, 6]
    assert (whole["failures"], whole["files"]) == ([], [])
    halves = 0
    for _ in killed_anywhere(folder, prune_all):
        found = record(folder)
        halves += whole != found != before
        assert {found[0] for found in found["runs"]} >= {2, 4, 6}
        prune_all(folder)
        assert record(folder) == whole
    assert halves


def test_work_stays_complete_wherever_its_prune_is_killed(folder):
    for again in (False, True):
        run(Job("t", Step("t", read=range(3), write=print), parameters={"a": 1}), ledger=ledger(folder), again=again)
    for _ in killed_anywhere(folder, prune_all):
        again = run(Job("t", Step("t", read=range(3), write=print), parameters={"a": 1}), ledger=ledger(folder))
        assert (again.already_complete, again.run) == (True, 2)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.fixture
def failed(folder):
    with suppress(JobFailedError):
        run(a_job(folder, failing=6), ledger=ledger(folder))
    assert list(folder.glob(".1.txt.*.stage"))
    return folder


def give_up(folder: Path) -> None:
    abandon(1, ledger=ledger(folder), job=a_job(folder))


def status(folder: Path) -> Status:
    with closing(SqliteHistory(ledger(folder))) as history:
        return history.runs()[0].status


def outputs(folder: Path) -> tuple[list[tuple], str]:
    with closing(sqlite3.connect(folder / "out.db")) as connection:
        rows = connection.execute("SELECT n FROM t ORDER BY n").fetchall()
    return rows, (folder / "1.txt").read_text()


def test_work_that_is_given_up_by_a_process_that_is_killed_is_resumable_or_final_never_between(failed):
    final = 0
    for _ in killed_anywhere(failed, give_up):
        if status(failed) is Status.ABANDONED:
            final += 1
            with pytest.raises(AbandonedError):
                run(a_job(failed), ledger=ledger(failed))
            give_up(failed)
            assert not list(failed.glob(".*.stage"))
        else:
            assert status(failed) is Status.FAILED
            assert resume(1, ledger=ledger(failed), job=a_job(failed)).status is Status.COMPLETED_WITH_FAILURES
            assert outputs(failed) == ([(n,) for n in range(6)], "0\n1\n2\n4\n5\n6\n7\n")
    assert final


def test_work_that_is_resumed_by_processes_that_are_killed_ends_as_if_they_had_not_been(failed):
    def go_on(folder: Path) -> None:
        resume(1, ledger=ledger(folder), job=a_job(folder))

    for _ in killed_anywhere(failed, go_on):
        if status(failed) in engine.sources_of(Status.ABANDONED) | {Status.LOST}:
            go_on(failed)
        assert status(failed) is Status.COMPLETED_WITH_FAILURES
        assert outputs(failed) == ([(n,) for n in range(6)], "0\n1\n2\n4\n5\n6\n7\n")


def test_a_planted_cleaning_up_before_the_mark_is_caught(failed):
    """Killed in between, the work looks resumable, and what it goes on from is gone."""

    def the_other_way_round(folder: Path) -> None:
        for stage in folder.glob(".*.stage"):
            stage.unlink()
        give_up(folder)

    broken = 0
    for _ in killed_anywhere(failed, the_other_way_round):
        if status(failed) is Status.FAILED:
            with suppress(JobFailedError, GroundChangedError):
                resume(1, ledger=ledger(failed), job=a_job(failed))
            broken += status(failed) is Status.FAILED
    assert broken


def killed_late(folder: Path) -> Job:
    """Killed once two chunks are in the table, before its process has told the ledger of their failures."""

    def check(row: dict[str, int]) -> dict[str, int]:
        if row["n"] == 1:
            raise ValueError("one")
        if row["n"] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return row

    rows = [{"n": number} for number in range(10)]
    table = insert(f"sqlite:///{folder}/late.db", "t")
    return Job("late", Step("load", read=rows, process=check, write=table, chunk_size=3, skip=Skip(on=ValueError)))


def known_of(folder: Path) -> tuple[int, int, list[int], bool]:
    """What the ledger knows of run 1: read, failed, which ones, and whether it says that this may be a part."""
    with closing(SqliteHistory(ledger(folder))) as history:
        (step,) = history.steps(1)
        failures = [failure.ordinal for failure in history.failures(1)]
        return step.counts.read, step.counts.failed, failures, step.known_in_part


def give_up_late(folder: Path) -> None:
    abandon(1, ledger=ledger(folder), job=killed_late(folder))


def wrong_after_giving_up(folder: Path) -> list[tuple]:
    """What is not known, or known in part without saying so, when those who gave the work up were killed."""
    wrong = []
    for _ in killed_anywhere(folder, give_up_late):
        found = known_of(folder)
        wrong += [found] if found != (6, 1, [1], False) and not found[-1] else []
        give_up_late(folder)
        found = known_of(folder)
        wrong += [found] if found != (6, 1, [1], False) else []
    return wrong


@pytest.fixture
def lost(folder):
    assert in_child(lambda: run(killed_late(folder), ledger=ledger(folder))) == KILLED
    assert known_of(folder) == (0, 0, [], True), "the premise of these tests"
    return folder


def test_what_a_killed_run_did_not_report_is_known_once_it_is_given_up_whoever_is_killed_in_that(lost):
    assert wrong_after_giving_up(lost) == []


def test_a_planted_giving_up_that_copies_nothing_from_the_target_is_caught(lost, monkeypatch):
    monkeypatch.setattr(closing_lost, "_ask_target", lambda *_: None)
    assert wrong_after_giving_up(lost)
