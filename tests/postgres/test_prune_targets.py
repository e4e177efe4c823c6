"""What a PostgreSQL target forgets about earlier laps, and what it keeps."""

from contextlib import closing

from tests.postgres.server import Fresh

from batchwright import Job, Skip, Step, prune_targets, run
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.writers import insert


def fail_once(row: dict[str, int]) -> dict[str, int]:
    if row["n"] == 1:
        raise ValueError("no")
    return row


def test_a_target_forgets_earlier_laps_and_vouches_for_the_last(fresh: Fresh, tmp_path):
    rows = [{"n": number} for number in range(4)]
    load = Step("load", read=rows, process=fail_once, write=insert(fresh.url, "numbers"), skip=Skip())
    job = Job("numbers", load, parameters={"day": 1})
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        for again in (False, True, True):
            run(job, ledger=ledger, again=again, yes=True)
        told = prune_targets("numbers", ledger=ledger, build=lambda execution: job, dry_run=True, with_failures=True)
        done = prune_targets("numbers", ledger=ledger, build=lambda execution: job, with_failures=True)
        assert told == done
        assert (done.forgotten.checkpoints, done.forgotten.failures, done.problems) == (2, 2, ())
        assert run(job, ledger=ledger).already_complete
    with closing(PostgresLedger(fresh.url)) as new:
        found = run(job, ledger=new)
    assert (found.lap, found.read_now) == (3, 0)
