"""run(): what it returns and raises, where its ledger is, and what it leaves behind."""

import json
import stat
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import pytest
from tests.unit.engine.runs import as_row, rows, url

import batchwright
from batchwright import Job, JobFailedError, Secret, Skip, Status, Step, replay, run
from batchwright.launch import Stop, bind, open_history
from batchwright.ledgers.memory import MemoryLedger
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.errors import AlreadyRunningError, DeclarationError, LedgerError, SourceError
from batchwright.readers import query
from batchwright.writers import insert, upsert


@pytest.fixture(autouse=True)
def ledger(tmp_path, monkeypatch) -> Path:
    """No test may leave a ledger beside its source file."""
    path = tmp_path / "ledger" / "ledger.db"
    monkeypatch.setenv("BATCHWRIGHT_LEDGER", str(path))
    return path


def refuse(item):
    if item % 3 == 2:
        raise ValueError(f"no {item}")
    return as_row(item)


def test_a_run_returns_counts_status_and_failures(tmp_path, ledger):
    result = run(
        Job(
            "daily", Step("load", read=range(9), process=refuse, write=insert(url(tmp_path / "t.db"), "t"), skip=Skip())
        )
    )
    assert (result.read, result.written, result.filtered, result.failed, result.outputs) == (9, 6, 0, 3, 6)
    assert result.status is Status.COMPLETED_WITH_FAILURES
    assert (result.job, result.run, result.lap, result.ledger) == ("daily", 1, 1, str(ledger))
    assert [(failure.ordinal, failure.error) for failure in result.failures] == [(2, "no 2"), (5, "no 5"), (8, "no 8")]
    assert len(result.failures) == 3
    assert len(list(result.failures)) == 3
    assert result.seconds > 0
    assert result.peak_memory_bytes > 0
    assert "load: COMPLETED_WITH_FAILURES, read 9 = written 6 + filtered 0 + failed 3" in str(result)


def test_a_run_with_failures_leaves_a_file_beside_the_ledger_for_its_owner_alone(tmp_path, ledger):
    result = run(Step("s", read=range(4), process=refuse, write=len, skip=Skip()))
    path = Path(result.failure_file)
    assert path == ledger.parent / "failures-1.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    assert [json.loads(line)["error"] for line in path.read_text().splitlines()] == ["no 2"]
    assert f"failures: {path}" in str(result)


def test_a_run_without_failures_leaves_no_file(ledger):
    assert run(Step("s", read=[0], write=len)).failure_file == ""
    assert list(ledger.parent.glob("failures*")) == []


def test_a_failure_file_that_cannot_be_written_is_a_warning_and_the_run_is_complete(ledger):
    ledger.parent.mkdir()
    (ledger.parent / "failures-1.jsonl").mkdir()
    result = run(Step("s", read=range(4), process=refuse, write=len, skip=Skip()))
    assert result.status is Status.COMPLETED_WITH_FAILURES
    assert "the failure file could not be written" in result.warnings[0]


def test_a_failed_job_raises_with_its_result_and_cause(tmp_path):
    with pytest.raises(JobFailedError) as caught:
        run(Step("s", read=range(4), process=refuse, write=insert(url(tmp_path / "t.db"), "t")))
    assert caught.value.result.status is Status.FAILED
    assert caught.value.result.written == 2
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value).startswith("step 's' of job 's' failed; ValueError: no 2 (while processing item 3")
    assert "\n" not in str(caught.value)


def test_check_false_returns_the_result_of_a_failed_job():
    result = run(Step("s", read=[2], process=refuse, write=len), check=False)
    assert (result.status, result.error.split(" (")[0]) == (Status.FAILED, "ValueError: no 2")


def test_a_finished_job_does_nothing_the_second_time(tmp_path):
    job = Job(
        "j", Step("s", read=range(2), process=as_row, write=insert(url(tmp_path / "t.db"), "t")), parameters={"day": 1}
    )
    run(job)
    result = run(job)
    assert result.already_complete
    assert rows(tmp_path / "t.db") == [0, 1]
    assert "already complete" in str(result)


SALES = """
import sys
from batchwright import Job, Step, run
from batchwright.writers import insert

DB = "sqlite:///{folder}/shop.db"

def rows():
    yield from ({{"x": n}} for n in range(5))

def daily(day: str) -> Job:
    return Job("daily", Step("load", read=rows, write=insert(DB, "t")))

if __name__ == "__main__":
    print(run(Job.of(daily, day="2026-11-22")).already_complete)
"""


def python(*arguments, cwd) -> str:
    environment = {"PATH": "", "PYTHONPATH": str(Path(batchwright.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_job_started_from_two_directories_is_one_job(tmp_path):
    project, other = tmp_path / "project", tmp_path / "other"
    (project / "jobs").mkdir(parents=True)
    other.mkdir()
    (project / "jobs" / "sales_job.py").write_text(SALES.format(folder=tmp_path))
    assert python("sales_job.py", cwd=project / "jobs") == "False"
    assert python(project / "jobs" / "sales_job.py", cwd=other) == "True"
    # And when it is imported instead of started: the same file, the same work.
    imported = (
        "from jobs import sales_job as s; from batchwright import *; print(run(Job.of(s.daily, day='2026-11-22')).run)"
    )
    assert python("-c", imported, cwd=project) == "1"
    assert (project / "jobs" / ".batchwright" / "ledger.db").exists()
    assert list(other.iterdir()) == []
    assert rows(tmp_path / "shop.db") == [0, 1, 2, 3, 4]


def test_a_job_begun_as_a_script_goes_on_when_it_is_loaded_from_its_file(tmp_path):
    """The address of a function must not depend on how its file was started."""
    script = SALES.replace('day="2026-11-22")', 'day="2026-11-22"), limit=2').format(folder=tmp_path)
    (tmp_path / "sales_job.py").write_text(script)
    python("sales_job.py", cwd=tmp_path)
    loaded = (
        "from batchwright import *; from batchwright.origins import load_function; "
        "print(run(Job.of(load_function('sales_job.py:daily'), day='2026-11-22')).status)"
    )
    assert python("-c", loaded, cwd=tmp_path) == "COMPLETED"
    assert rows(tmp_path / "shop.db") == [0, 1, 2, 3, 4]


def test_the_ledger_may_be_a_path_an_address_or_an_object(tmp_path):
    step = Step("s", read=[1], write=len)
    assert run(step, ledger=tmp_path / "a.db").ledger == str(tmp_path / "a.db")
    assert run(step, ledger=f"sqlite:///{tmp_path}/a.db").run == 2
    mine = MemoryLedger()
    assert run(step, ledger=mine).ledger == "memory"
    assert len(mine.runs()) == 1


def test_a_ledger_that_was_given_is_not_closed(tmp_path):
    mine = SqliteLedger(tmp_path / "mine.db")
    step = Step("s", read=[1], write=len)
    assert [run(step, ledger=mine).run, run(step, ledger=mine).run] == [1, 2]
    mine.close()


def test_a_one_shot_iterator_is_refused_under_a_durable_ledger_and_allowed_under_memory():
    with pytest.raises(
        SourceError, match=r"step 's': read is an iterator that can be read only once.*read=rows instead"
    ):
        run(Step("s", read=iter([1]), write=len))
    with pytest.raises(SourceError, match="another order in each process"):
        run(Step("s", read={1, 2}, write=len))
    assert run(Step("s", read=iter([1, 2]), write=len), ledger=MemoryLedger()).read == 2


@pytest.mark.parametrize(
    ("work", "options", "says"),
    [
        (7, {}, r"run takes a Job or a Step; got int; write run\(Job.of"),
        (Step("s", read=[1], write=len), {"limit": 0}, "limit must be at least 1; got 0"),
        (Step("s", read=[1], write=len), {"max_failures": "lots"}, "count or a percentage; got 'lots'"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(work, options, says, ledger):
    with pytest.raises(DeclarationError, match=says):
        run(work, **options)
    assert not ledger.exists()


def test_a_limit_stops_and_the_next_run_goes_on(tmp_path):
    step = Step("s", read=range(5), process=as_row, write=insert(url(tmp_path / "t.db"), "t"))
    first = run(step, limit=2)
    assert (first.status, first.read) == (Status.STOPPED, 2)
    second = run(step)
    assert (second.status, second.read, second.lap) == (Status.COMPLETED, 5, 1)
    assert rows(tmp_path / "t.db") == [0, 1, 2, 3, 4]


def test_a_stop_object_stops_a_run_from_outside():
    stop = Stop()

    def write(outputs):
        stop.request("enough")

    assert run(Step("s", read=range(5), write=write, chunk_size=1), stop=stop).read == 1


def test_work_that_runs_elsewhere_is_not_started(ledger):
    job = Job("j", Step("s", read=[1], write=len), parameters={"day": 1})
    other = SqliteLedger(ledger)
    with (
        other.own(job.key),
        pytest.raises(AlreadyRunningError, match="is already running with these parameters") as caught,
    ):
        run(job)
    other.close()
    assert caught.value.exit_code == 4


def test_steps_may_hand_over_through_a_database(tmp_path):
    db = url(tmp_path / "shop.db")

    def daily(day: date) -> Job:
        sales = [{"id": n, "shop": f"shop {n % 2}", "day": day, "cents": n} for n in range(6)]
        totals = "SELECT shop, sum(cents) AS cents FROM sales WHERE day = :day GROUP BY shop"
        load = Step("load", read=sales, write=upsert(db, "sales", key="id"))
        report = Step("report", read=query(db, totals, {"day": "2026-11-22"}, key="shop"), write=insert(db, "totals"))
        return Job("daily", load, report)

    assert run(Job.of(daily, day=date(2026, 11, 22))).status is Status.COMPLETED
    assert rows(tmp_path / "shop.db", "SELECT * FROM totals ORDER BY shop") == [("shop 0", 6), ("shop 1", 9)]


def test_a_secret_is_nowhere_in_what_a_run_leaves(tmp_path, ledger):
    def job(password: Annotated[str, Secret]) -> Job:
        def leak(item):
            raise ValueError(f"login {password} failed for {item}")

        read = [{"password": password}]
        return Job("j", Step("s", read=read, process=leak, write=insert(url(tmp_path / "t.db"), "t"), skip=Skip()))

    run(Job.of(job, password="canary-7f3a"))
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"canary-7f3a" in path.read_bytes()]
    assert found == []


def test_a_run_is_replayed_from_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    mended = tmp_path / "mended"
    (tmp_path / "replayed_job.py").write_text(f"""
from pathlib import Path
from batchwright import Job, Skip, Step
from batchwright.writers import insert

def process(item):
    if item == 1 and not Path({str(mended)!r}).exists():
        raise ValueError("one")
    return {{"x": item}}

def daily(day: str) -> Job:
    target = insert("{url(tmp_path / "t.db")}", "t")
    return Job("daily", Step("load", read=[0, 1, 2], process=process, write=target, skip=Skip()))
""")
    import replayed_job

    result = run(Job.of(replayed_job.daily, day="x"))
    assert result.failed == 1
    mended.touch()
    assert replay(result.run).replayed == 1
    assert sorted(rows(tmp_path / "t.db")) == [0, 1, 2]
    assert next(iter(result.failures)).state == "replayed"


def test_a_history_that_is_not_there_is_an_error_and_is_not_created(tmp_path):
    with pytest.raises(LedgerError):
        open_history(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_sources_and_targets_are_put_behind_the_ports_in_listed_order():
    job = Job("j", Step("b", read=[1], write=len), Step("a", read=lambda: iter([1]), write=print, after=()))
    bound = bind(job, durable=True)
    assert list(bound) == ["b", "a"]
    assert bound["b"].reader.address == bound["b"].step.source_address
    assert bound["a"].reader.address == bound["a"].step.source_address
    assert bound["a"].writer.address == bound["a"].step.target_address


def test_importing_batchwright_loads_nothing_slow():
    slow = "{'sqlite3', 'asyncio', 'concurrent.futures', 'multiprocessing', 'ssl', 'click', 'rich'}"
    code = (
        f"import sys, batchwright, batchwright.readers, batchwright.writers; print(sorted({slow} & set(sys.modules)))"
    )
    assert python("-c", code, cwd="/") == "[]"
