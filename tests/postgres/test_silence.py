"""A server, or something before it, that takes what comes and says nothing: no error, no end of the connection.

The system acknowledges every packet, so that no time-out of the network helps: only whoever waits can end it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest
from tests.postgres.moving_job import CHUNK, ITEMS, MOVE, NUMBERS
from tests.postgres.server import Fresh
from tests.postgres.silent_proxy import SilentProxy
from tests.postgres.two_hosts import TABLES, UNINTERRUPTED, ended

from batchwright import Job, Retry, Step, run
from batchwright.databases import postgres
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.model.errors import BatchwrightError, FencedError, JobFailedError, ReadError, WriteError
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.readers import query
from batchwright.writers import execute, insert

pytestmark = pytest.mark.crash

JOB = Path(__file__).with_name("moving_job.py")

BOUND_SECONDS = 60
"""Far more than any wait here may take, with a statement_timeout of one second; less than one lasts by default."""

SOON_SECONDS = 40
"""Within this a stop must have ended, on a busy machine too: less than the wait itself lasts. Seen: four to nine."""


@pytest.fixture
def proxy(server) -> Iterator[SilentProxy]:
    with closing(SilentProxy(server.port)) as proxy:
        yield proxy


def through(fresh: Fresh, proxy: SilentProxy, *, lease_seconds: float = 30, **settings: str) -> str:
    """The address by way of the proxy, with a statement_timeout of a second unless `settings` has another."""
    bounds = {"statement_timeout": "1000", "idle_in_transaction_session_timeout": "1000", **settings}
    plain = {"sslmode": "disable", "gssencmode": "disable", "records_schema": fresh.records, "connect_timeout": "2"}
    options = " ".join(f"-c {name}={value}" for name, value in {"search_path": fresh.name, **bounds}.items() if value)
    url = fresh.server.url_of("postgres", options=options, lease_seconds=f"{lease_seconds:g}", **plain)
    return url.replace(f":{fresh.server.port}/", f":{proxy.port}/")


def moving(url: str, **options) -> Job:
    rows = Step("rows", read=range(ITEMS), process=lambda n: {"n": n}, write=insert(url, "rows"), chunk_size=CHUNK)
    moves = Step("moves", read=range(ITEMS), process=lambda n: (n,), write=execute(url, MOVE), chunk_size=CHUNK)
    return Job("moving", rows, moves, parameters={"day": 1})


def held(fresh: Fresh) -> tuple[Counter[int], list[tuple]]:
    return Counter(row[0] for row in fresh.rows("SELECT n FROM rows")), fresh.rows("SELECT * FROM balance")


@pytest.fixture(autouse=True)
def tables(fresh: Fresh) -> None:
    fresh.connection.execute(TABLES)


@pytest.mark.parametrize("forwards", [False, True], ids=["which is lost", "whose answer is lost"])
@pytest.mark.parametrize(
    "statement",
    ["COPY|INSERT INTO .*rows", "UPDATE balance", "batchwright_checkpoints", "batchwright_fences", "COMMIT"],
)
def test_a_run_goes_on_by_itself_after_a_statement(statement, forwards, fresh, proxy, tmp_path):
    seen: list[int] = []

    def armed(n: int) -> dict[str, int]:
        if n == 35:
            proxy.silence(statement.encode(), forwards=forwards)
        return {"n": n}

    job = moving(through(fresh, proxy))
    rows = Step("rows", read=range(ITEMS), process=armed, write=job.steps[0].write, chunk_size=CHUNK)
    result = run(Job("moving", rows, job.steps[1], parameters={"day": 1}), ledger=f"sqlite:///{tmp_path}/l.db")
    assert (result.status, seen) == (Status.COMPLETED, [])
    assert proxy.fell_silent.is_set()
    assert held(fresh) == UNINTERRUPTED
    assert result.seconds < BOUND_SECONDS


def test_who_connects_is_told_in_one_line_that_nobody_answers(fresh, proxy):
    proxy.hush()
    began = monotonic()
    with pytest.raises(WriteError, match=r"cannot be reached; .*timeout") as raised:
        postgres.connect(postgres.database_of(through(fresh, proxy)))
    assert "\n" not in str(raised.value)
    assert monotonic() - began < BOUND_SECONDS


@pytest.mark.parametrize("ledger", ["SQLite", "PostgreSQL"])
def test_a_run_that_begins_in_silence_goes_on_once_it_is_answered(ledger, fresh, proxy, tmp_path):
    proxy.hush()
    url = through(fresh, proxy)
    speaking = threading.Timer(3, proxy.speak)
    speaking.start()
    result = run(moving(url), ledger=url if ledger == "PostgreSQL" else f"sqlite:///{tmp_path}/l.db")
    speaking.join()
    assert result.status is Status.COMPLETED
    assert held(fresh) == UNINTERRUPTED


def test_a_reader_that_is_not_answered_is_opened_again_or_fails_in_one_line(fresh, proxy, tmp_path):
    url = through(fresh, proxy)
    source = query(url, NUMBERS, key="n", page_rows=50)

    def reading(retry: Retry | None) -> JobResult:
        proxy.fell_silent.clear()
        step = Step("s", read=source, process=silenced, write=insert(fresh.url, "rows"), chunk_size=CHUNK, retry=retry)
        return run(Job("reading", step, parameters={"day": 1}), ledger=f"sqlite:///{tmp_path}/l.db")

    def silenced(row: dict[str, int]) -> dict[str, int]:
        if row["n"] in silences:
            silences.remove(row["n"])
            proxy.silence(b"generate_series", forwards=True)
        return row

    silences = {70, 130}

    began = monotonic()
    with pytest.raises(JobFailedError, match="no answer within"):
        reading(Retry(on=ReadError, attempts=1))
    result = reading(None)
    assert (result.status, proxy.fell_silent.is_set()) == (Status.COMPLETED, True)
    assert held(fresh)[0] == UNINTERRUPTED[0]
    assert monotonic() - began < BOUND_SECONDS


LEASE_SECONDS = 9
"""A heartbeat every 1.5 seconds, trusted for 6, given up after 2.5: a second one has time to get through."""


def beats_since(fresh: Fresh, moment: object) -> bool:
    sql = f"SELECT max(heartbeat_at) > %s::timestamptz FROM {fresh.records}.batchwright_leases"
    return bool(fresh.connection.execute(sql, [moment]).fetchone()[0])


def test_a_heartbeat_that_is_not_answered_is_sent_again_on_another_connection(fresh, proxy):
    def item(n: int) -> dict[str, int]:
        if n == 55:
            proxy.silence(b"batchwright_leases SET heartbeat_at")
            assert proxy.fell_silent.wait(BOUND_SECONDS)
            moment = fresh.rows("SELECT clock_timestamp()")[0][0]
            while not beats_since(fresh, moment):
                fresh.connection.execute("SELECT pg_sleep(0.05)")
        return {"n": n}

    rows = Step("rows", read=range(ITEMS), process=item, write=insert(fresh.url, "rows"), chunk_size=CHUNK)
    result = run(Job("beating", rows, parameters={"day": 1}), ledger=through(fresh, proxy, lease_seconds=LEASE_SECONDS))
    assert (result.status, result.counts.rollbacks) == (Status.COMPLETED, 0)
    assert held(fresh)[0] == UNINTERRUPTED[0]


@pytest.mark.parametrize("forwards", [False, True], ids=["which is lost", "whose answer is lost"])
@pytest.mark.parametrize("statement", ["batchwright_step_executions", "COMMIT"])
def test_a_ledger_that_does_not_answer_is_asked_again(statement, forwards, fresh, proxy):
    def item(n: int) -> dict[str, int]:
        if n == 199:
            proxy.silence(statement.encode(), forwards=forwards)
        return {"n": n}

    rows = Step("rows", read=range(ITEMS), process=item, write=insert(fresh.url, "rows"), chunk_size=CHUNK)
    result = run(Job("noted", rows, parameters={"day": 1}), ledger=through(fresh, proxy, lease_seconds=LEASE_SECONDS))
    assert (result.status, proxy.fell_silent.is_set()) == (Status.COMPLETED, True)
    assert result.seconds < BOUND_SECONDS
    with closing(PostgresLedger(fresh.url)) as ledger, closing(ledger.history()) as history:
        assert [
            (found.status, step.counts.written) for found in history.runs() for step in history.steps(found.id)
        ] == [(Status.COMPLETED, ITEMS)]


def test_a_ledger_that_stays_silent_ends_the_run_with_its_lease_and_the_next_run_goes_on(fresh, proxy):
    def item(n: int) -> dict[str, int]:
        if n == 55:
            proxy.hush()
        return {"n": n}

    def job(process) -> Job:
        rows = Step("rows", read=range(ITEMS), process=process, write=insert(fresh.url, "rows"), chunk_size=CHUNK)
        return Job("alone", rows, parameters={"day": 1})

    url, began = through(fresh, proxy, lease_seconds=LEASE_SECONDS), monotonic()
    with pytest.raises((FencedError, WriteError, JobFailedError)):
        run(job(item), ledger=url)
    assert monotonic() - began < BOUND_SECONDS
    proxy.speak()
    assert run(job(lambda n: {"n": n}), ledger=url).status is Status.COMPLETED
    assert held(fresh)[0] == UNINTERRUPTED[0]


# Stopping: with time-outs as they are by default, so that the wait itself would last 70 seconds, an hour when reading.
LASTING = {"statement_timeout": "", "idle_in_transaction_session_timeout": "2000"}


def start(url: str, ledger: str, folder: Path, kind: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "batchwright", "run", f"{JOB}:job", "--kind", kind, "--ledger", ledger, *options]
    here = {**os.environ, "TARGET": url, "FOLDER": str(folder), "GATE": "55", **environment}
    return subprocess.Popen(
        [*command, "--no-progress"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder, env=here
    )


def into_silence(fresh: Fresh, proxy: SilentProxy, folder: Path, process: subprocess.Popen[str]) -> None:
    """Let it through its gate and into a wait that nobody will answer."""
    while not (folder / "waits").exists():
        assert process.poll() is None, process.communicate()
        fresh.connection.execute("SELECT pg_sleep(0.02)")
    (folder / "go").touch()
    assert proxy.fell_silent.wait(BOUND_SECONDS)
    # So that the process is in its wait; if it were not, the test would only be easier.
    fresh.connection.execute("SELECT pg_sleep(0.3)")


WAITS = {
    "an insert": ("tables", b"COPY|INSERT INTO .*rows"),
    "a commit": ("tables", b"COMMIT"),
    "a page": ("reading", b"generate_series"),
    "everything": ("tables", b"COMMIT"),
    "the ledger": ("function", b"COMMIT"),
}


@pytest.mark.parametrize("wait", WAITS)
def test_a_second_signal_ends_the_wait_at_once(wait, fresh, proxy, tmp_path, capsys):
    kind, pattern = WAITS[wait]
    url = through(fresh, proxy, **LASTING)
    ledger = url if wait in ("everything", "the ledger") else f"{tmp_path}/l.db"
    process = start(url, ledger, tmp_path, kind)
    if wait == "a page":
        pattern = b"(?s)generate_series.*LIMIT"
    arm(proxy, pattern, tmp_path, fresh, process, all_others=wait == "everything")
    into_silence(fresh, proxy, tmp_path, process)
    process.send_signal(signal.SIGTERM)
    fresh.connection.execute("SELECT pg_sleep(0.2)")
    began = monotonic()
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    seconds = monotonic() - began
    with capsys.disabled():
        sys.stderr.write(
            f"\n  waiting for {wait} that is not answered: ended {seconds:.1f} s after the second signal\n"
        )
    assert code == 143, said
    assert "Traceback" not in said, said
    assert seconds < SOON_SECONDS
    proxy.speak()
    completes(fresh, url, ledger, tmp_path, kind)


def arm(proxy, pattern, folder, fresh, process, *, all_others=False) -> None:
    """Be silent from the statement that follows the gate."""
    while not (folder / "waits").exists():
        assert process.poll() is None, process.communicate()
        fresh.connection.execute("SELECT pg_sleep(0.02)")
    proxy.silence(pattern, forwards=True, all_others=all_others)


def completes(fresh: Fresh, url: str, ledger: str, folder: Path, kind: str) -> None:
    code, said = ended(start(url, ledger, folder, kind))
    assert code == 0, said
    if kind == "tables":
        assert held(fresh) == UNINTERRUPTED
    else:
        assert set(map(int, (folder.parent / "calls.txt").read_text().split())) == set(range(ITEMS))


def test_without_the_bound_a_run_would_be_seen_to_wait(fresh, proxy, tmp_path):
    process = start(through(fresh, proxy), f"{tmp_path}/l.db", tmp_path, "tables", PLANTED="patience")
    arm(proxy, b"COMMIT", tmp_path, fresh, process)
    into_silence(fresh, proxy, tmp_path, process)
    # An honest run is done with it after three seconds.
    fresh.connection.execute("SELECT pg_sleep(9)")
    waits = process.poll() is None
    process.kill()
    process.communicate()
    assert waits


def test_a_first_signal_ends_a_wait_for_a_page(fresh, proxy, tmp_path):
    process = start(through(fresh, proxy, **LASTING), f"{tmp_path}/l.db", tmp_path, "reading")
    arm(proxy, b"(?s)generate_series.*LIMIT", tmp_path, fresh, process)
    into_silence(fresh, proxy, tmp_path, process)
    began = monotonic()
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert code == 143, said
    assert monotonic() - began < SOON_SECONDS


def test_the_end_of_the_grace_time_ends_a_wait_for_a_commit(fresh, proxy, tmp_path):
    url = through(fresh, proxy, **LASTING)
    process = start(url, f"{tmp_path}/l.db", tmp_path, "tables", "--grace", "1")
    arm(proxy, b"COMMIT", tmp_path, fresh, process)
    into_silence(fresh, proxy, tmp_path, process)
    began = monotonic()
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert code == 143, said
    assert monotonic() - began < SOON_SECONDS
    proxy.speak()
    completes(fresh, url, f"{tmp_path}/l.db", tmp_path, "tables")


def test_a_lease_of_another_length_is_told_by_the_address(fresh):
    with closing(PostgresLedger(f"{fresh.url}&lease_seconds=12")) as ledger:
        times = ledger._times
    assert (times.heartbeat_seconds, times.ttl_seconds, times.margin_seconds) == (2, 12, 4)
    assert postgres.database_of(f"{fresh.url}&lease_seconds=12").url == postgres.database_of(fresh.url).url


@pytest.mark.parametrize("seconds", ["0", "-3", "soon", "nan", "inf"])
def test_a_lease_of_no_length_is_refused(fresh, seconds):
    with pytest.raises(BatchwrightError, match="lease_seconds must be a number of seconds above 0"):
        PostgresLedger(f"{fresh.url}&lease_seconds={seconds}")
