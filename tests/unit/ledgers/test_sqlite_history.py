import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from batchwright.databases import sqlite_records
from batchwright.databases.sqlite import connect
from batchwright.ledgers import sqlite_history
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.ledgers.sqlite_rows import migrations
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import LedgerError
from batchwright.model.status import Status
from batchwright.testing.ledger_examples import KEY, a_failure, a_request, run_to, step_key

WAY_OUT = "--ledger PATH or BATCHWRIGHT_LEDGER"

# Root may write everywhere: the process gives its rights up once it has loaded what it needs.
READ_AS_NOBODY = """
import os, sys
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.model.errors import LedgerError
if os.geteuid() == 0: os.setgroups([]), os.setresgid(*[65534] * 3), os.setresuid(*[65534] * 3)
try:
    history = SqliteHistory(sys.argv[1])
    print([str(run.status) for run in history.runs()])
except LedgerError as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path):
    with closing(SqliteLedger(path)) as ledger:
        yield ledger


def refusal(path):
    with pytest.raises(LedgerError) as caught:
        SqliteHistory(path)
    text = str(caught.value)
    assert "\n" not in text
    assert WAY_OUT in text
    assert str(path) in text
    return text


def test_a_missing_ledger_is_refused_and_not_made(tmp_path):
    assert "there is no ledger" in refusal(tmp_path / "nowhere" / "ledger.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_an_empty_file_and_a_file_that_is_no_database_are_refused(tmp_path):
    assert "is a folder" in refusal(tmp_path)
    empty, notes = tmp_path / "empty.db", tmp_path / "notes.txt"
    empty.touch()
    notes.write_text("not a database\n" * 100)
    assert "is no ledger" in refusal(empty)
    assert "not a sound SQLite database" in refusal(notes)
    assert empty.stat().st_size == 0


def test_a_database_with_no_more_than_checkpoints_is_refused(path):
    with closing(connect(path)) as connection:
        sqlite_records.prepare(connection)
    assert "is no ledger" in refusal(path)


@pytest.mark.parametrize(("version", "mend"), [(99, "upgrade batchwright"), (-1, "run a job with it")])
def test_a_ledger_of_another_version_is_refused(path, version, mend):
    SqliteLedger(path).close()
    with closing(connect(path)) as connection:
        connection.execute("UPDATE batchwright_schema SET version = ? WHERE component = 'ledger'", (version,))
    assert mend in refusal(path)


def test_a_history_cannot_write(path, ledger):
    with closing(SqliteHistory(path)) as history, pytest.raises(sqlite3.OperationalError, match="readonly"):
        history._connection.execute("DELETE FROM batchwright_job_executions")


def test_a_history_is_read_while_a_run_is_writing_and_keeps_nobody_waiting(path, ledger):
    run_to(ledger, Status.COMPLETED)
    ledger.save_checkpoint(step_key(), Checkpoint(Position(500)), [a_failure(ordinal) for ordinal in range(250)])
    with closing(SqliteHistory(path)) as history:
        ledger._connection.execute("BEGIN IMMEDIATE")
        ledger._connection.execute("DELETE FROM batchwright_job_executions")
        assert [run.status for run in history.runs()] == [Status.COMPLETED]
        ledger._connection.execute("ROLLBACK")
        failures = history.failures(1)
        next(failures)
        # Nothing of an unfinished reading keeps the log from being folded back into the file.
        assert ledger._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        assert len(list(failures)) == 249


def test_a_run_is_lost_only_when_its_lock_is_free(path, ledger):
    with closing(SqliteHistory(path)) as history:
        run_to(ledger, Status.COMPLETED)
        with ledger.own(KEY):
            run = ledger.begin_run(a_request())
            assert history.run(run.id).status is Status.STARTING
        assert history.run(run.id).status is Status.LOST
        assert [found.status for found in history.runs()] == [Status.LOST, Status.COMPLETED]


def test_a_run_whose_locks_were_deleted_reads_as_lost(path, ledger):
    with ledger.own(KEY):
        run = ledger.begin_run(a_request())
    for file in (path.parent / "locks").iterdir():
        file.unlink()
    (path.parent / "locks").rmdir()
    with closing(SqliteHistory(path)) as history:
        assert history.run(run.id).status is Status.LOST


def test_a_ledger_in_a_read_only_folder_is_read(shared_folder):
    path = shared_folder / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        run_to(ledger, Status.COMPLETED)
    path.chmod(0o444)
    shared_folder.chmod(0o555)
    assert read_as_nobody(path) == "['COMPLETED']\n"


def test_a_ledger_in_a_read_only_folder_is_read_while_a_run_is_writing(shared_folder):
    path = shared_folder / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        run_to(ledger, Status.COMPLETED)
        for file in shared_folder.glob("ledger.db*"):
            file.chmod(0o444)
        shared_folder.chmod(0o555)
        assert read_as_nobody(path) == "['COMPLETED']\n"


def test_a_ledger_that_may_not_be_read_is_refused(shared_folder):
    path = shared_folder / "ledger.db"
    SqliteLedger(path).close()
    path.chmod(0o000)
    assert WAY_OUT in read_as_nobody(path)


def test_a_log_that_cannot_be_shared_in_a_read_only_folder_is_never_passed_over(shared_folder):
    path = shared_folder / "ledger.db"
    with closing(SqliteLedger(path)) as ledger:
        run_to(ledger, Status.COMPLETED)
        ledger._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        run_to(ledger, Status.FAILED)
        for file in shared_folder.glob("ledger.db*"):
            file.chmod(0o444)
        (shared_folder / "ledger.db-shm").chmod(0o000)
        shared_folder.chmod(0o555)
        assert WAY_OUT in read_as_nobody(path)


def test_the_summary_describes_the_file(path, ledger):
    with closing(SqliteHistory(path)) as history:
        summary = history.summary()
    assert (summary["path"], summary["schema_version"], summary["journal_mode"]) == (
        str(path),
        migrations()[-1].version,
        "wal",
    )
    assert summary["size_bytes"] == path.stat().st_size


def test_the_summary_tells_damage(path):
    with closing(SqliteLedger(path)) as ledger:
        ledger.save_checkpoint(step_key(), Checkpoint(Position(900)), [a_failure(ordinal) for ordinal in range(800)])
    data = bytearray(path.read_bytes())
    page = data.rindex(b"no such shop 555") // 4096 * 4096
    data[page : page + 12] = b"\xff" * 12
    path.write_bytes(data)
    with closing(SqliteHistory(path)) as history:
        assert history.summary()["integrity"] != "ok"


LAP = (None,) * 3

BY_KEY = "SEARCH batchwright_failures USING INDEX sqlite_autoindex_batchwright_failures_1"


@pytest.mark.parametrize(
    ("query", "values", "plan"),
    [
        (
            sqlite_history.NEWEST_OF_INSTANCES,
            (None, None, 20),
            [
                "SEARCH run USING INTEGER PRIMARY KEY",
                "LIST SUBQUERY",
                "SCAN batchwright_job_executions USING COVERING INDEX",
                "CORRELATED SCALAR SUBQUERY",
                "SEARCH each USING COVERING INDEX batchwright_executions_of_instance (job=? AND parameters_hash=?)",
                "CORRELATED SCALAR SUBQUERY",
                f"{BY_KEY.replace('batchwright_failures', 'failure', 1)} (job=? AND parameters_hash=? AND lap=?)",
            ],
        ),
        (sqlite_history.ONE_RUN, (1,), ["SEARCH run USING INTEGER PRIMARY KEY"]),
        (
            sqlite_history.STEPS_OF_LAP,
            (*LAP, 1),
            [
                "SEARCH batchwright_step_executions USING INTEGER PRIMARY KEY",
                "LIST SUBQUERY",
                "SEARCH batchwright_step_executions USING COVERING INDEX batchwright_executions_of_step",
            ],
        ),
        (
            sqlite_history.FAILURES_OF_LAP + sqlite_history.IN_ORDER,
            (*LAP, "", -1, -1, 100),
            [f"{BY_KEY} (job=? AND parameters_hash=? AND lap=? AND (step,partition,ordinal)>(?,?,?))"],
        ),
        (
            sqlite_history.FAILURES_OF_STEP + sqlite_history.IN_ORDER,
            (*LAP, "load", -1, -1, 100),
            [f"{BY_KEY} (job=? AND parameters_hash=? AND lap=? AND step=? AND (partition,ordinal)>(?,?))"],
        ),
        (sqlite_history.CAUSES_OF_LAP, LAP, [f"{BY_KEY} (job=? AND parameters_hash=? AND lap=?)"]),
    ],
)
def test_queries_go_straight_to_their_rows_and_sort_nothing(ledger, query, values, plan):
    found = [row[3] for row in ledger._connection.execute(f"EXPLAIN QUERY PLAN {query}", values)]
    assert len(found) == len(plan), found
    for line, expected in zip(found, plan, strict=True):
        assert line.startswith(expected)


def read_as_nobody(path):
    done = subprocess.run(
        [sys.executable, "-c", READ_AS_NOBODY, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def shared_folder():
    """A folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)
