"""The server of a PostgreSQL ledger crashes and recovers in the middle of a run."""

import contextlib
import os
import signal

import pytest
from tests.postgres.server import running_server

from batchwright import Job, Step, run
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.model.status import Status
from batchwright.writers import text_file

pytestmark = pytest.mark.crash


def test_a_run_goes_on_once_the_server_is_back_and_nothing_is_recorded_twice(tmp_path):
    with running_server() as server, contextlib.closing(PostgresLedger(server.url)) as ledger:
        handed, crashed = [], []

        def crash(item):
            if item in (15, 47):
                # Since the first crash the ledger may not have asked for anything: its old session is gone already.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(ledger._session.connection().info.backend_pid, signal.SIGKILL)
                    crashed.append(item)
            return item

        read = range(60)
        job = Job(
            "survive",
            Step("call", read=read, process=crash, write=handed.extend, chunk_size=10),
            Step("write", read=read, process=lambda item: str(crash(item)), write=text_file(tmp_path / "out.txt")),
            parameters={"day": 1},
        )
        result = run(job, ledger=ledger)
        assert result.status is Status.COMPLETED
        assert 15 in crashed
        assert handed == list(read)
        assert (tmp_path / "out.txt").read_text().split() == [str(item) for item in read]
        with contextlib.closing(ledger.history()) as history:
            assert [found.status for found in history.runs()] == [Status.COMPLETED]
            assert [step.counts.written for step in history.steps(1)] == [60, 60]
