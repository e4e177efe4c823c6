"""Bad input and misuse, through run(): one line, the right exit code, nothing half-written, and a way on."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.engine.runs import as_row, database, rows, url

import batchwright
from batchwright import BatchwrightError, Job, JobFailedError, Retry, Skip, Step, run
from batchwright.databases import sqlite
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.errors import LedgerError, SourceError, TargetError, WriteError
from batchwright.readers import csv_rows, query, text_lines
from batchwright.writers import csv_file, insert, text_file, upsert

ROWS = [{"id": n} for n in range(5)]


def refused(work, ledger, *, exit_code: int, says: str) -> BatchwrightError:
    """Run, expecting this error: one line without a traceback."""
    with pytest.raises(BatchwrightError, match=says) as caught:
        run(work, ledger=ledger)
    assert caught.value.exit_code == exit_code
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
    return caught.value


@pytest.fixture
def ledger(tmp_path) -> Path:
    return tmp_path / "ledger" / "ledger.db"


@pytest.mark.parametrize("make", [csv_rows, text_lines])
def test_a_missing_input(tmp_path, ledger, make):
    target = tmp_path / "out.csv"
    work = Step("load", read=make(tmp_path / "in.csv"), write=text_file(target))
    refused(work, ledger, exit_code=2, says=r"in\.csv")
    assert not target.exists()


@pytest.mark.parametrize("make", [csv_rows, text_lines])
def test_a_directory_instead_of_an_input(tmp_path, ledger, make):
    refused(Step("load", read=make(tmp_path), write=len), ledger, exit_code=2, says="folder|directory")


def test_an_input_in_another_encoding_is_reported_line_by_line(tmp_path, ledger):
    (tmp_path / "in.csv").write_bytes(b"id,name\n1,ok\n2,caf\xe9\n3,ok\n")
    work = Step("load", read=csv_rows(tmp_path / "in.csv"), write=insert(url(tmp_path / "t.db"), "t"), skip=Skip())
    result = run(work, ledger=ledger)
    assert [(failure.place.line, failure.phase.value) for failure in result.failures] == [(3, "read")]
    assert rows(tmp_path / "t.db") == [("1", "ok"), ("3", "ok")]


def test_a_missing_database_to_read_from(tmp_path, ledger):
    work = Step("load", read=query(url(tmp_path / "none.db"), "SELECT 1"), write=len)
    refused(work, ledger, exit_code=2, says=r"there is no database .*none\.db")
    assert not (tmp_path / "none.db").exists()


def test_an_unknown_column_and_a_missing_key_column(tmp_path, ledger):
    path = database(tmp_path / "t.db", "CREATE TABLE t (nr)")
    refused(
        Step("a", read=ROWS, write=insert(url(path), "t")), ledger, exit_code=1, says="no column 'id'.*columns are nr"
    )
    work = Step("b", read=ROWS, write=upsert(url(path), "other", key="nr"))
    refused(work, ledger, exit_code=1, says="key column 'nr' is missing from the rows; they have id")
    assert rows(path) == []


@pytest.mark.parametrize(
    "content", [b"id,name\n" * 1_000, b"SQLite format 3\0" + b"\xff" * 5_000], ids=["text", "damaged"]
)
def test_a_target_that_is_no_database(tmp_path, ledger, content):
    (tmp_path / "t.db").write_bytes(content)
    refused(
        Step("load", read=ROWS, write=insert(url(tmp_path / "t.db"), "t")), ledger, exit_code=2, says="sound SQLite"
    )
    assert (tmp_path / "t.db").read_bytes() == content


@pytest.mark.parametrize("kind", ["database", "file"])
def test_a_target_in_a_place_where_none_can_be(tmp_path, ledger, kind):
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "target"
    target = insert(url(place), "t") if kind == "database" else csv_file(place)
    refused(Step("load", read=ROWS, write=target), ledger, exit_code=2, says="file")
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("place", ["file/ledger.db", "folder", "file"])
def test_a_ledger_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").write_text("not a database" * 100)
    (tmp_path / "folder" / "ledger.db").mkdir(parents=True)
    called: list = []
    error = refused(Step("load", read=ROWS, write=called.append), tmp_path / place, exit_code=2, says="ledger")
    assert isinstance(error, LedgerError)
    assert "--ledger PATH or BATCHWRIGHT_LEDGER" in str(error)
    assert called == []


def test_a_ledger_on_a_file_system_that_takes_nothing():
    refused(Step("load", read=ROWS, write=len), "/proc/ledger.db", exit_code=2, says="ledger")


def test_a_target_on_a_file_system_that_takes_nothing(ledger):
    refused(Step("load", read=ROWS, write=insert("sqlite:////proc/t.db", "t")), ledger, exit_code=1, says="/proc/t.db")
    refused(Step("copy", read=["a"], write=text_file("/proc/out.txt")), ledger, exit_code=1, says="/proc")


@contextlib.contextmanager
def mounted(folder: Path, *options: str):
    """A file system of its own, where we may mount one."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_target_that_is_read_only(tmp_path, ledger):
    if os.geteuid() != 0:
        path = database(tmp_path / "t.db", "CREATE TABLE t (id)")
        path.chmod(0o400)
        refused(Step("load", read=ROWS, write=insert(url(path), "t")), ledger, exit_code=2, says="cannot be written")
        return
    with mounted(tmp_path / "mount") as folder:
        path = database(folder / "t.db", "CREATE TABLE t (id)")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        refused(Step("load", read=ROWS, write=insert(url(path), "t")), ledger, exit_code=2, says="cannot be written")
        refused(
            Step("new", read=ROWS, write=insert(url(folder / "new.db"), "t")), ledger, exit_code=1, says="read-only"
        )
        refused(Step("file", read=["a"], write=text_file(folder / "out")), ledger, exit_code=2, says="out")
        assert rows(path) == []


@pytest.mark.parametrize("kind", ["database", "file"])
def test_a_full_disk_stops_the_step_and_with_space_it_goes_on(tmp_path, ledger, kind):
    with mounted(tmp_path / "mount", "-o", "size=300k") as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(b"x" * 100_000)
        items = [f"{n:050}" for n in range(5_000)]
        if kind == "database":
            work = Step("load", read=items, process=as_row, write=insert(url(folder / "t.db"), "t"), chunk_size=100)
        else:
            work = Step("load", read=items, write=text_file(folder / "out"), chunk_size=100, checkpoint_seconds=0)
        refused(work, ledger, exit_code=1, says="(disk|space)")
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=9m", str(folder)], check=True)
        result = run(work, ledger=ledger)
        assert (result.lap, result.read, result.written) == (1, 5_000, 5_000)
        assert (rows(folder / "t.db") if kind == "database" else (folder / "out").read_text().splitlines()) == items


FULL_DISK = """
import resource, signal, sys
from batchwright import BatchwrightError, Step, run
from batchwright.writers import insert

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
rows = [{"x": f"{n:050}"} for n in range(10_000)]
try:
    run(Step("load", read=rows, write=insert(sys.argv[1], "t"), chunk_size=100), ledger=sys.argv[2])
except BatchwrightError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_file_that_may_not_grow_is_a_failing_disk(tmp_path, ledger):
    environment = {"PATH": "", "PYTHONPATH": str(Path(batchwright.__file__).parents[1])}
    arguments = [sys.executable, "-c", FULL_DISK, url(tmp_path / "t.db"), str(ledger)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("\n") == 1
    assert "disk" in done.stdout
    found = rows(tmp_path / "t.db")
    assert len(found) % 100 == 0
    work = Step(
        "load",
        read=[{"x": f"{n:050}"} for n in range(10_000)],
        write=insert(url(tmp_path / "t.db"), "t"),
        chunk_size=100,
    )
    assert run(work, ledger=ledger).written == 10_000
    assert len(rows(tmp_path / "t.db")) == 10_000


def impatient(monkeypatch) -> None:
    """Connections that do not wait five seconds for a lock."""
    connect = sqlite.connect
    monkeypatch.setattr(sqlite, "connect", lambda path, patience: connect(path, sqlite.Patience(0.01)))


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_locked_by_somebody_else(tmp_path, ledger, monkeypatch, mode, lock):
    impatient(monkeypatch)
    path = database(tmp_path / "t.db", f"PRAGMA journal_mode = {mode}; CREATE TABLE t (x)")
    retry = Retry(on=sqlite3.OperationalError, attempts=2, delay_seconds=0.001)
    work = Job("j", Step("s", read=range(3), process=as_row, write=insert(url(path), "t"), write_retry=retry))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"BEGIN {lock}")
        error = refused(work, ledger, exit_code=1, says="locked by another process")
    assert isinstance(error, JobFailedError | WriteError)
    assert rows(path) == []
    assert run(work, ledger=ledger).written == 3
    assert rows(path) == [0, 1, 2]


def test_a_set_and_an_iterator_under_a_durable_ledger(ledger):
    refused(Step("s", read=iter([1]), write=len), ledger, exit_code=2, says="can be read only once")
    refused(Step("s", read={1}, write=len), ledger, exit_code=2, says="another order in each process")


def test_a_function_that_returns_nothing_to_iterate(ledger):
    error = refused(Step("s", read=lambda: 7, write=len), ledger, exit_code=1, says="must return something to iterate")
    assert isinstance(error.__cause__, SourceError)


def test_what_was_refused_before_it_began_has_left_no_run_in_the_ledger(tmp_path, ledger):
    refused(Step("load", read=text_lines(tmp_path / "in"), write=len), ledger, exit_code=2, says="in")
    (tmp_path / "in").write_text("a\n")
    result = run(Step("load", read=text_lines(tmp_path / "in"), write=len), ledger=ledger)
    assert (result.run, result.lap, result.read) == (1, 1, 1)


def test_what_is_missing_for_a_later_step_fails_the_run_which_then_goes_on(tmp_path, ledger):
    first = Step("first", read=[1], write=len)
    second = Step("second", read=text_lines(tmp_path / "in"), write=len)
    refused(Job("j", first, second), ledger, exit_code=1, says=r"step 'second' of job 'j' failed; .*in")
    (tmp_path / "in").write_text("a\n")
    result = run(Job("j", first, second), ledger=ledger)
    assert (result.run, result.lap, [step.already_complete for step in result.steps]) == (2, 1, [True, False])


def test_a_ledger_may_be_removed_and_the_target_still_knows_what_is_in_it(tmp_path, ledger):
    work = Job(
        "j", Step("s", read=range(3), process=as_row, write=insert(url(tmp_path / "t.db"), "t")), parameters={"d": 1}
    )
    run(work, ledger=ledger)
    ledger.unlink()
    run(work, ledger=ledger)
    assert rows(tmp_path / "t.db") == [0, 1, 2]


def test_a_newer_ledger_is_refused_and_not_touched(ledger):
    SqliteLedger(ledger).close()
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("UPDATE batchwright_schema SET version = 99")
        connection.commit()
    refused(Step("s", read=[1], write=len), ledger, exit_code=2, says="version 99.*upgrade batchwright")
    assert isinstance(TargetError("x"), BatchwrightError)
