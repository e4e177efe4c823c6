import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from batchwright.databases.sqlite import connect
from batchwright.databases.sqlite_schema import Migration, migrate, schema_version
from batchwright.ledgers import sqlite, sqlite_closing, sqlite_rows
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.ledgers.transitions import LIVE
from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import LedgerError, WriteError
from batchwright.model.status import Status
from batchwright.testing.ledger_examples import KEY, a_failure, a_request, run_to, start_run, step_key

WAY_OUT = "--ledger PATH or BATCHWRIGHT_LEDGER"

OPEN = """
import sys
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.errors import LedgerError
try:
    SqliteLedger(sys.argv[1]).close()
except LedgerError as error:
    print(error)
"""

# Root may write everywhere: the process gives its rights up once it has loaded what it needs.
OPEN_AS_NOBODY = OPEN.replace(
    "try:",
    "import os\nif os.geteuid() == 0: os.setgroups([]), os.setresgid(*[65534] * 3), os.setresuid(*[65534] * 3)\ntry:",
)

OPEN_WHEN_TOLD = "import sys; sys.stdin.readline()" + OPEN

# The kernel refuses to let any file grow beyond this: a disk that is full.
OPEN_ON_A_FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))" + OPEN

DIE_AT_THE_COMMIT_OF_A_MIGRATION = """
import os, signal, sys
from pathlib import Path
from batchwright.databases.sqlite import connect
from batchwright.databases.sqlite_schema import Migration, migrate
from batchwright.ledgers.sqlite_rows import migrations
script = "ALTER TABLE batchwright_instances ADD COLUMN note TEXT;\\nCREATE TABLE batchwright_notes (text TEXT);"
connection = connect(Path(sys.argv[1]))
sys.addaudithook(lambda event, _: event == "batchwright.K11" and os.kill(os.getpid(), signal.SIGKILL))
migrate(connection, "ledger", [*migrations(), Migration(99, script)])
"""


USE_IN_A_FORKED_CHILD = """
import os, sys
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import LedgerError
ledger = SqliteLedger(sys.argv[1])
child = os.fork()
if child == 0:
    try:
        ledger.last_run(InstanceKey("job", "hash"))
    except LedgerError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".batchwright" / "ledger.db"


@pytest.fixture
def ledger(path):
    with closing(SqliteLedger(path)) as ledger:
        yield ledger


@pytest.fixture
def shared_folder():
    """A folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        folder.chmod(0o777)


def refusal(path):
    """The one line with which a ledger at this path is refused."""
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(path)
    text = str(caught.value)
    assert "\n" not in text
    assert WAY_OUT in text
    assert str(path) in text
    return text


def python(program, path):
    return subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)


def test_folder_and_files_are_for_their_owner_alone(path, ledger):
    run_to(ledger, Status.COMPLETED)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.glob("ledger.db*")}
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (path.parent / "locks").stat().st_mode & 0o777 == 0o700


def test_the_ledger_is_durable_at_every_commit(ledger):
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_relative_path_is_kept_when_the_working_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with closing(SqliteLedger("ledger.db")) as ledger:
        monkeypatch.chdir("/")
        run_to(ledger, Status.COMPLETED)
        assert ledger.address == str(tmp_path / "ledger.db")
    assert (tmp_path / "locks").is_dir()


def test_a_folder_is_refused(tmp_path):
    assert "is a folder" in refusal(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be opened" in refusal(tmp_path / "file" / "ledger.db")


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be taken for one\n" * 100)
    before = path.read_bytes()
    assert "not a sound SQLite database" in refusal(path)
    assert refusal(path).endswith("; restore it, or name another ledger with --ledger PATH or BATCHWRIGHT_LEDGER")
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_as_it_is(path):
    SqliteLedger(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE batchwright_schema SET version = 99 WHERE component = 'ledger'")
        connection.commit()
    with pytest.raises(LedgerError, match=f"of version 99; .*; upgrade batchwright, or .*{WAY_OUT}"):
        SqliteLedger(path)
    with closing(sqlite3.connect(path)) as connection:
        assert schema_version(connection, "ledger") == 99


def test_a_place_that_cannot_be_written_is_refused(shared_folder):
    shared_folder.chmod(0o555)
    done = python(OPEN_AS_NOBODY, shared_folder / "new" / "ledger.db")
    assert done.returncode == 0, done.stderr
    assert "Permission denied" in done.stdout
    assert WAY_OUT in done.stdout


def test_a_read_only_ledger_is_refused(shared_folder):
    path = shared_folder / "ledger.db"
    SqliteLedger(path).close()
    path.chmod(0o444)
    done = python(OPEN_AS_NOBODY, path)
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert WAY_OUT in done.stdout


def test_a_full_disk_is_refused_when_the_ledger_is_made(path):
    done = python(OPEN_ON_A_FULL_DISK, path)
    assert done.returncode == 0, done.stderr
    assert "the ledger cannot be used: the disk of database" in done.stdout
    assert WAY_OUT in done.stdout


def test_a_disk_that_fills_up_later_stops_the_write_and_keeps_what_was_there(ledger):
    ledger.save_checkpoint(step_key(), Checkpoint(Position(1)), [a_failure(0)])
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(WriteError, match=r"the disk of database .* is full; .* MB free"):
        ledger.save_checkpoint(step_key(), Checkpoint(Position(2)), [a_failure(1, payload="x" * 100_000)])
    assert ledger.load_checkpoint(step_key()) == Checkpoint(Position(1))
    assert [failure.ordinal for failure in ledger.load_failures(step_key())] == [0]


def test_a_lock_that_somebody_keeps_is_a_write_error_after_a_bounded_wait(path, ledger):
    ledger._connection.execute("PRAGMA busy_timeout = 1")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(WriteError, match="locked by another process"):
            ledger.save_checkpoint(step_key(), Checkpoint(Position(1)), [])


def test_eight_processes_that_make_one_ledger_at_once_all_succeed(tmp_path):
    for number in range(3):
        path = tmp_path / str(number) / "ledger.db"
        command = [sys.executable, "-c", OPEN_WHEN_TOLD, str(path)]
        starting = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(8)
        ]
        for process in starting:
            process.stdin.write("now\n")
            process.stdin.flush()
        assert [process.communicate() for process in starting] == [("", "")] * 8
        with closing(sqlite3.connect(path)) as connection:
            assert schema_version(connection, "ledger") == sqlite_rows.migrations()[-1].version


def test_a_forked_child_may_not_use_the_ledger_of_its_parent(path):
    done = python(USE_IN_A_FORKED_CHILD, path)
    assert done.returncode == 0, done.stderr
    assert "opened by another process" in done.stdout


def test_the_database_itself_allows_one_live_execution_of_a_lap(ledger):
    with ledger.own(KEY):
        start_run(ledger)
    columns = "job, parameters_hash, lap, started_at, kind, parameters, steps, host, pid, error, seen_at"
    for status in LIVE:
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            ledger._connection.execute(
                f"INSERT INTO batchwright_job_executions (status, {columns}) "
                f"SELECT '{status}', {columns} FROM batchwright_job_executions"
            )


def test_a_dead_run_is_said_to_have_ended_when_it_was_last_seen(ledger):
    with ledger.own(KEY):
        dead = start_run(ledger)
        ledger.begin_step(dead.id, step_key(), "in", "out", "exactly once")
        ledger._connection.execute("UPDATE batchwright_job_executions SET seen_at = '2026-01-01T00:00:00+00:00'")
        ledger._connection.execute("UPDATE batchwright_step_executions SET seen_at = '2026-01-02T00:00:00+00:00'")
        ledger.begin_run(a_request())
    ended = ledger._connection.execute("SELECT ended_at FROM batchwright_job_executions WHERE id = ?", (dead.id,))
    assert ended.fetchone() == ("2026-01-02T00:00:00+00:00",)


@pytest.mark.parametrize(
    ("query", "index", "values"),
    [
        (sqlite.LAST_RUN, "batchwright_executions_of_instance", 2),
        (sqlite_closing.LIVE_RUNS, "batchwright_", 2 + len(LIVE)),
        (sqlite.LAST_STEP, "batchwright_executions_of_step", 5),
    ],
)
def test_the_engines_queries_use_an_index_and_sort_nothing(ledger, query, index, values):
    plan = [row[3] for row in ledger._connection.execute(f"EXPLAIN QUERY PLAN {query}", (None,) * values)]
    assert len(plan) == 1
    assert plan[0].startswith("SEARCH batchwright_")
    assert f"USING INDEX {index}" in plan[0]


NEXT = sqlite_rows.migrations()[-1].version + 1


def next_version(connection, script):
    migrate(connection, "ledger", [*sqlite_rows.migrations(), Migration(NEXT, script)])


def test_an_empty_file_becomes_a_ledger(tmp_path):
    path = tmp_path / "ledger.db"
    path.touch()
    with closing(SqliteLedger(path)) as ledger:
        assert run_to(ledger, Status.COMPLETED).id == 1


def test_a_ledger_is_upgraded_with_everything_in_it(path):
    with closing(SqliteLedger(path)) as ledger:
        run = run_to(ledger, Status.COMPLETED)
    with closing(connect(path)) as connection:
        for _ in range(2):
            next_version(
                connection, "ALTER TABLE batchwright_job_executions ADD COLUMN note TEXT NOT NULL DEFAULT 'none';"
            )
        assert schema_version(connection, "ledger") == NEXT
        assert connection.execute("SELECT id, note FROM batchwright_job_executions").fetchall() == [(run.id, "none")]


def test_an_upgrade_that_fails_half_way_changes_nothing(path):
    SqliteLedger(path).close()
    before = schema(path)
    with closing(connect(path)) as connection, pytest.raises(sqlite3.Error, match="already exists"):
        next_version(connection, "CREATE TABLE batchwright_notes (text TEXT);\n" * 2)
    assert schema(path) == before
    SqliteLedger(path).close()


def test_an_upgrade_that_is_killed_changes_nothing(path):
    SqliteLedger(path).close()
    before = schema(path)
    assert python(DIE_AT_THE_COMMIT_OF_A_MIGRATION, path).returncode == -signal.SIGKILL
    assert schema(path) == before
    with closing(SqliteLedger(path)) as ledger:
        assert run_to(ledger, Status.COMPLETED).id == 1


def schema(path):
    with closing(sqlite3.connect(path)) as connection:
        version = schema_version(connection, "ledger")
        return version, connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
