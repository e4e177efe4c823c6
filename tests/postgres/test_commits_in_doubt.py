"""Commits whose answer is lost: the target is asked what became of them, and the run goes on by itself.

`BATCHWRIGHT_DOUBTFUL_COMMITS=1500 BATCHWRIGHT_SEED=7` cuts more, and others. Beside an upsert, which would hide that a
chunk is there twice, rows without a key and a running balance are written.
"""

import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres.proxy import AT_COMMIT, Cut, Proxy
from tests.postgres.server import Fresh, Server, running_server

from batchwright import Job, Skip, Step, run
from batchwright.databases import postgres, postgres_records
from batchwright.engine import commit_chunk
from batchwright.ledgers.postgres import PostgresLedger
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.errors import GroundChangedError
from batchwright.model.result import JobResult
from batchwright.model.status import Status
from batchwright.writers import execute, insert, upsert

pytestmark = pytest.mark.crash

COMMITS = int(os.environ.get("BATCHWRIGHT_DOUBTFUL_COMMITS", "60"))

SEED = int(os.environ.get("BATCHWRIGHT_SEED") or random.randrange(1_000_000))

PLANTED_COMMITS, PLANTED_SEED = 30, 2026

SETUP = """
CREATE TABLE entries (n int, word text CHECK (word <> 'no 7'));
CREATE TABLE copied (n int);
CREATE TABLE latest (shop int PRIMARY KEY, n int);
CREATE TABLE balance (shop int PRIMARY KEY, total bigint, moves int);
INSERT INTO balance SELECT shop, 0, 0 FROM generate_series(0, 4) shop;
"""

SHOPS = 5


@dataclass(frozen=True)
class Plan:
    """So many items that more than `commits` commits are cut, where 6 in 10 are: the chunks alone nearly suffice."""

    commits: int

    @property
    def chunks(self) -> int:
        """Of each of the four steps."""
        return 5 + self.commits // 2

    def items(self, chunk_size: int) -> range:
        return range(self.chunks * chunk_size)


CHUNKS = {"entries": 10, "copied": 100, "latest": 10, "balance": 5}


def job(url: str, plan: Plan) -> Job:
    move = "UPDATE balance SET total = total + %(n)s, moves = moves + 1 WHERE shop = %(shop)s"
    parts: dict[str, tuple[Callable[[int], Any], Any]] = {
        "entries": (to_entry, insert(url, "entries")),
        "copied": (lambda n: {"n": n}, insert(url, "copied")),
        "latest": (lambda n: {"shop": n % SHOPS, "n": n}, upsert(url, "latest", key="shop")),
        "balance": (lambda n: {"shop": n % SHOPS, "n": n}, execute(url, move)),
    }
    steps = [
        Step(name, read=plan.items(size), process=parts[name][0], write=parts[name][1], chunk_size=size, skip=Skip())
        for name, size in CHUNKS.items()
    ]
    return Job("doubt", *steps, parameters={"day": 1})


def to_entry(n: int) -> dict[str, Any]:
    """Every 13th is refused by the processor, every 50th by the table."""
    if n % 13 == 0:
        raise ValueError("thirteen")
    return {"n": n, "word": "no 7" if n % 50 == 7 else "yes"}


@dataclass(frozen=True)
class Verdict:
    """What a run left, beside what it should have."""

    lost: int
    twice: int
    wrong: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.wrong)


def judge(fresh: Fresh, plan: Plan, result: JobResult) -> Verdict:
    rows = Counter(("entries", row[0]) for row in fresh.rows("SELECT n FROM entries"))
    rows.update(("copied", row[0]) for row in fresh.rows("SELECT n FROM copied"))
    failed = [n for n in plan.items(CHUNKS["entries"]) if n % 13 == 0 or n % 50 == 7]
    expected = {("copied", n) for n in plan.items(CHUNKS["copied"])}
    expected |= {("entries", n) for n in plan.items(CHUNKS["entries"])} - {("entries", n) for n in failed}
    moved = plan.items(CHUNKS["balance"])
    in_target = fresh.rows(f"SELECT ordinal FROM {fresh.records}.batchwright_failures ORDER BY ordinal")
    checks = {
        "balance": fresh.rows("SELECT shop, total, moves FROM balance ORDER BY 1")
        == [(shop, sum(moved[shop::SHOPS]), len(moved[shop::SHOPS])) for shop in range(SHOPS)],
        "latest": fresh.rows("SELECT shop, n FROM latest ORDER BY 1")
        == [(shop, plan.items(CHUNKS["latest"])[shop::SHOPS][-1]) for shop in range(SHOPS)],
        "failures in the target": [row[0] for row in in_target] == failed,
        "failures in the ledger": [failure.ordinal for failure in result.failures] == failed,
        "status": result.status is Status.COMPLETED_WITH_FAILURES,
        "counts": all(step.counts.balanced for step in result.steps),
        "read": [step.counts.read for step in result.steps] == [plan.chunks * size for size in CHUNKS.values()],
        "failed": result.failed == len(failed),
        "commits": [step.counts.commits for step in result.steps] == [plan.chunks] * len(CHUNKS),
    }
    lost = sum(1 for row in expected if not rows[row])
    twice = sum(count - 1 for count in rows.values()) + sum(rows[row] for row in set(rows) - expected)
    return Verdict(lost, twice, tuple(name for name, right in checks.items() if not right))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # Only processes and connections end here, not the machine.
    with running_server(synchronous_commit="off") as server:
        yield server


def through(fresh: Fresh, proxy: Proxy, **parameters: str) -> str:
    """The database's address by way of the proxy."""
    options = f"-c search_path={fresh.name}"
    plain = {"sslmode": "disable", "gssencmode": "disable", "records_schema": fresh.records}
    url = fresh.server.url_of("postgres", options=options, **plain, **parameters)
    return url.replace(f":{fresh.server.port}/", f":{proxy.port}/")


@dataclass(frozen=True)
class Outcome:
    """What a run came to, and what was done to it."""

    verdict: Verdict
    commits: Counter[tuple[Cut, bool]]
    midway: int

    @property
    def took_effect(self) -> int:
        return sum(number for (_, committed), number in self.commits.items() if committed)

    def report(self, seed: int, ledger: str) -> str:
        total, verdict = self.commits.total(), self.verdict
        lines = [
            f"{total:,} commits in doubt, {self.took_effect:,} committed, {total - self.took_effect:,} not, ",
            f"  the ledger on {ledger}; {self.midway:,} cuts more in the middle of an INSERT or COPY",
        ]
        lines[0] += f"{verdict.lost} lost, {verdict.twice} twice, seed {seed}"
        for (cut, committed), number in sorted(self.commits.items()):
            lines.append(f"  {number:5,} {'committed' if committed else 'not':9}  cut {cut}")
        return "\n" + "\n".join(lines)


def run_through_cuts(fresh: Fresh, folder: Path, commits: int, seed: int, ledger: str = "SQLite") -> Outcome:
    """One run of the job, in one go, with more than so many commits in doubt."""
    fresh.connection.execute(SETUP)
    plan = Plan(commits)
    with closing(Proxy(fresh.server.url, fresh.server.port, seed)) as proxy:
        url = through(fresh, proxy)
        opened = SqliteLedger(folder / "ledger.db") if ledger == "SQLite" else PostgresLedger(url)
        with closing(opened):
            proxy.armed = True
            result = run(job(url, plan), ledger=opened, check=False)
            proxy.armed = False
            verdict = judge(fresh, plan, result)
        return Outcome(verdict, proxy.outcomes(), proxy.cuts[Cut.MIDWAY])


@pytest.mark.parametrize("ledger", ["SQLite", "PostgreSQL"])
def test_a_run_goes_through_commits_in_doubt_by_itself(ledger, fresh, tmp_path, capsys):
    outcome = run_through_cuts(fresh, tmp_path, COMMITS, SEED, ledger)
    with capsys.disabled():
        print(outcome.report(SEED, ledger), file=sys.stderr)  # noqa: T201 - that is what it is run for
    assert outcome.verdict == Verdict(0, 0, ()), SEED
    assert outcome.commits.total() >= COMMITS
    assert outcome.midway > 0
    assert {cut for cut, _ in outcome.commits} == set(AT_COMMIT)
    assert 0 < outcome.took_effect < outcome.commits.total()


class SetBack:
    """A writer whose target forgets all but its first chunk while a COMMIT is in doubt, as if a standby took over."""

    def __init__(self, fresh: Fresh, at_commit: int) -> None:
        self.writer, self.fresh, self.at_commit = insert(fresh.url, "t"), fresh, at_commit
        self.guarantee, self.address = self.writer.guarantee, self.writer.address

    def open(self, scope):
        sink = self.writer.open(scope)
        commit, commits = sink.commit, []
        table = f"{self.fresh.records}.batchwright_checkpoints"

        def committing(checkpoint, failures):
            commits.append(checkpoint)
            if len(commits) == self.at_commit:
                sink.close()
                self.fresh.connection.execute(f"DELETE FROM t WHERE n >= 2; DELETE FROM {table}")
                self.fresh.connection.execute(f"INSERT INTO {table} SELECT * FROM kept")
                sink._committing = True
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            commit(checkpoint, failures)
            if len(commits) == 1:
                self.fresh.connection.execute(f"CREATE TABLE kept AS SELECT * FROM {table}")

        sink.commit = committing
        return sink


@pytest.mark.parametrize("at_commit", [3, 5], ids=["at a chunk", "at the end"])
def test_a_target_that_has_lost_commits_while_one_is_in_doubt_ends_the_run(at_commit, fresh, tmp_path):
    """Going on from what it says would leave a gap that nobody sees."""

    def job(write) -> Job:
        step = Step("s", read=range(8), process=lambda n: {"n": n}, write=write, chunk_size=2)
        return Job("back", step, parameters={"day": 1})

    ledger = f"sqlite:///{tmp_path}/l.db"
    result = run(job(SetBack(fresh, at_commit)), ledger=ledger, check=False)
    assert result.status is Status.FAILED
    assert "its target lacks work that was committed to it" in result.error
    with pytest.raises(GroundChangedError, match="its target lacks work that was committed to it"):
        run(job(insert(fresh.url, "t")), ledger=ledger)


def naive_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that failed is taken for one that did not happen."""
    monkeypatch.setattr(commit_chunk, "_has_committed", lambda target: False)


def belief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that was sent is taken for one that happened."""
    honest = postgres.commit

    def trusting(connection):
        try:
            honest(connection)
        except psycopg.OperationalError:
            postgres.close(connection)

    monkeypatch.setattr(postgres, "commit", trusting)


def hasty_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is looked at without waiting for whoever still moves it."""
    monkeypatch.setattr(postgres_records, "settled_checkpoint", postgres_records.get_checkpoint)


def no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint replaces whatever stands there: the second line of defence is down."""

    def replaces(connection, schema, key, before, after):
        postgres_records.put_checkpoint(connection, schema, key, after)

    monkeypatch.setattr(postgres_records, "move_checkpoint", replaces)


@pytest.mark.parametrize(
    ("bug", "shows"),
    [(naive_retry, "twice"), (belief, "lost"), (hasty_question, "twice")],
    ids=["naive retry", "belief", "hasty question"],
)
def test_a_planted_bug_loses_rows_or_has_them_twice(bug, shows, fresh, tmp_path, monkeypatch):
    bug(monkeypatch)
    no_comparison(monkeypatch)
    outcome = run_through_cuts(fresh, tmp_path, PLANTED_COMMITS, PLANTED_SEED)
    assert getattr(outcome.verdict, shows) > 0


@pytest.mark.parametrize("bug", [naive_retry, belief, hasty_question], ids=["naive retry", "belief", "hasty question"])
def test_with_the_comparison_of_checkpoints_a_planted_bug_ends_the_run_before_it_harms(
    bug, fresh, tmp_path, monkeypatch
):
    bug(monkeypatch)
    outcome = run_through_cuts(fresh, tmp_path, PLANTED_COMMITS, PLANTED_SEED)
    assert "status" in outcome.verdict.wrong
    assert outcome.verdict.twice == 0


def test_without_any_bug_the_planted_schedule_passes(fresh, tmp_path):
    assert run_through_cuts(fresh, tmp_path, PLANTED_COMMITS, PLANTED_SEED).verdict.good
