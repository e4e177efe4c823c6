"""What an operator does from Python."""

import pytest

from batchwright import AlreadyRunningError, Job, Status, Step, resume, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import GroundChangedError, LedgerError, NotResumableError, OriginError


def a_job(taken, name="load"):
    return Job(name, Step("load", read=list(range(10)), write=taken.extend, chunk_size=2))


@pytest.fixture
def stopped():
    """A ledger with run 1 stopped after four items, and what those were."""
    ledger, taken = MemoryLedger(), []
    assert run(a_job(taken), ledger=ledger, limit=4).status is Status.STOPPED
    return ledger, taken


def test_a_job_built_by_hand_is_resumed_when_it_is_given(stopped):
    ledger, taken = stopped
    assert resume(1, ledger=ledger, job=a_job(taken)).status is Status.COMPLETED
    assert taken == list(range(10))


def test_a_job_built_by_hand_that_is_not_given_is_refused(stopped):
    with pytest.raises(OriginError, match="no job function"):
        resume(1, ledger=stopped[0])


def test_another_job_is_refused(stopped):
    ledger, taken = stopped
    with pytest.raises(GroundChangedError, match="other work"):
        resume(1, ledger=ledger, job=a_job(taken, "other"))
    assert len(taken) == 4


def test_complete_work_and_unknown_runs_are_refused(stopped):
    ledger, taken = stopped
    run(a_job(taken), ledger=ledger)
    with pytest.raises(NotResumableError, match="run 2 of job 'load' is COMPLETED"):
        resume(1, ledger=ledger, job=a_job(taken))
    with pytest.raises(LedgerError, match="no run 7"):
        resume(7, ledger=ledger)


def test_work_under_way_is_refused(stopped):
    ledger, taken = stopped
    found = []

    def ask(row):
        with pytest.raises(AlreadyRunningError) as refused:
            resume(1, ledger=ledger, job=a_job(taken))
        found.append(refused.value.exit_code)
        return row

    run(Job("load", Step("load", read=list(range(10)), process=ask, write=taken.extend)), ledger=ledger, limit=1)
    assert found == [4]
