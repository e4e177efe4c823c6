"""Replay: open failures are given to their step again, each item once, where that can be."""

import pytest
from tests.unit.engine.runs import Blocks, Breaking, as_row, bad, database, rows, run_here, url

from batchwright import Job, Skip, Step, replay
from batchwright.engine.stop import Stop
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import GroundChangedError, LedgerError, NotReplayableError, WriteError
from batchwright.model.failure import FailureState
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.writers import insert
from batchwright.writers.sqlite import SqlSink


class UnansweredError(Exception):
    """A commit whose answer is lost."""


class Mendable:
    """A processor that refuses some items until it is mended."""

    def __init__(self, *refused) -> None:
        self.refused = set(refused)
        self.meanwhile = lambda item: None

    def __call__(self, item):
        self.meanwhile(item)
        if item in self.refused:
            raise ValueError(f"no {item}")
        return as_row(item)


def loaded(path, process, *, read=None, chunk_size=3, target=None):
    write = target or insert(url(path), "t")
    return Job(
        "j", Step("load", read=read or range(9), process=process, write=write, chunk_size=chunk_size, skip=Skip())
    )


def states(ledger, run=1):
    return [(failure.ordinal, failure.state.value) for failure in ledger.failures(run)]


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_mended_items_go_in_and_their_failures_are_closed(tmp_path, chunk_size):
    process = Mendable(1, 4, 7)
    job = loaded(tmp_path / "t.db", process, chunk_size=chunk_size)
    ledger = run_here(job).ledger
    process.refused = {4}
    result = replay(1, ledger=ledger, job=job)
    assert (result.replayed, result.still_open) == (2, 1)
    assert sorted(rows(tmp_path / "t.db")) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert states(ledger) == [(1, "replayed"), (4, "open"), (7, "replayed")]
    run = ledger.run(result.run)
    assert run is not None
    assert (run.kind, run.lap, run.status) == ("replay", 1, "COMPLETED_WITH_FAILURES")


def test_replaying_twice_writes_nothing_twice(tmp_path):
    process = Mendable(1)
    job = loaded(tmp_path / "t.db", process)
    ledger = run_here(job).ledger
    process.refused = set()
    assert replay(1, ledger=ledger, job=job).replayed == 1
    assert replay(1, ledger=ledger, job=job).replayed == 0
    assert len(rows(tmp_path / "t.db")) == 9


def test_items_without_a_whole_payload_are_read_again_by_position(tmp_path):
    process, read = Mendable(11), Blocks([[10, 11], [12, bad(), 14]])
    job = loaded(tmp_path / "t.db", process, read=read)
    ledger = run_here(job).ledger
    process.refused = set()
    object.__setattr__(read, "blocks", [[10, 11], [12, 13, 14]])
    assert replay(1, ledger=ledger, job=job, accept_changed=True, yes=True).replayed == 2
    assert sorted(rows(tmp_path / "t.db")) == [10, 11, 12, 13, 14]


def test_an_item_that_is_gone_from_the_input_stays_open(tmp_path):
    read = Blocks([[1], [bad()]])
    job = loaded(tmp_path / "t.db", as_row, read=read)
    ledger = run_here(job).ledger
    object.__setattr__(read, "blocks", [[1]])
    result = replay(1, ledger=ledger, job=job)
    assert (result.replayed, result.still_open) == (0, 1)
    assert states(ledger) == [(1, "open")]


def test_a_row_that_is_refused_again_stays_open_and_its_neighbours_go_in(tmp_path):
    target = insert(url(tmp_path / "t.db"), "t", columns={"x": "INTEGER CHECK (x != 4)"})
    process = Mendable(1, 4, 7)
    job = loaded(tmp_path / "t.db", process, target=target, chunk_size=9)
    ledger = run_here(job).ledger
    process.refused = set()
    result = replay(1, ledger=ledger, job=job)
    assert (result.replayed, result.still_open) == (2, 1)
    assert states(ledger) == [(1, "replayed"), (4, "open"), (7, "replayed")]


class Killed(BaseException):
    """What nothing of ours catches."""


@pytest.mark.parametrize("before", ["settle", "ledger"])
def test_a_replay_killed_in_between_is_ended_by_the_next_one(tmp_path, before):
    process = Mendable(1, 4)
    armed: list = []

    def kill(name, call):
        if name == "settle" and armed:
            raise armed.pop()

    class Ledger(MemoryLedger):
        def settle_failures(self, key, ordinals, *state):
            if ordinals and armed:
                raise armed.pop()
            super().settle_failures(key, ordinals, *state)

    ledger = Ledger()
    target = Breaking(insert(url(tmp_path / "t.db"), "t"), kill) if before == "settle" else None
    job = loaded(tmp_path / "t.db", process, target=target)
    run_here(job, ledger=ledger)
    process.refused = set()
    armed.append(Killed())
    with pytest.raises(Killed):
        replay(1, ledger=ledger, job=job)
    replay(1, ledger=ledger, job=job)
    assert sorted(rows(tmp_path / "t.db")) == list(range(9))
    assert states(ledger) == [(1, "replayed"), (4, "replayed")]


@pytest.mark.parametrize("took_effect", [True, False])
def test_a_replay_whose_commit_is_in_doubt_says_so_and_the_next_one_ends_it(tmp_path, monkeypatch, took_effect):
    process, cut = Mendable(*range(9)), []
    ledger = run_here(job := loaded(tmp_path / "t.db", process, chunk_size=2)).ledger
    settle = SqlSink.settle

    def settle_without_an_answer(sink, ordinals):
        if not cut and ordinals[0] == 4:
            cut.append(ordinals)
            if took_effect:
                settle(sink, ordinals)
            raise UnansweredError
        settle(sink, ordinals)

    classify = SqlSink.classify
    monkeypatch.setattr(SqlSink, "settle", settle_without_an_answer)
    monkeypatch.setattr(
        SqlSink,
        "classify",
        lambda sink, error: Fault.DOUBTFUL if isinstance(error, UnansweredError) else classify(sink, error),
    )
    process.refused = set()
    with pytest.raises(WriteError, match=r"the answer of the target to a commit .* was lost.*replay the run"):
        replay(1, ledger=ledger, job=job)
    replay(1, ledger=ledger, job=job)
    assert sorted(rows(tmp_path / "t.db")) == list(range(9))
    assert states(ledger) == [(ordinal, "replayed") for ordinal in range(9)]


def test_steps_that_follow_are_named_as_stale(tmp_path):
    process = Mendable(1)
    load = Step("load", read=range(3), process=process, write=insert(url(tmp_path / "t.db"), "t"), skip=Skip())
    report, mail = Step("report", read=[1], write=len), Step("mail", read=[1], write=len)
    other = Step("other", read=[1], write=len, after=())
    job = Job("j", load, report, mail, other)
    ledger = run_here(job).ledger
    process.refused = set()
    assert replay(1, ledger=ledger, job=job).stale == ("report", "mail")


def test_a_replay_that_closes_nothing_makes_nothing_stale(tmp_path):
    load = Step("load", read=range(3), process=Mendable(1), write=insert(url(tmp_path / "t.db"), "t"), skip=Skip())
    job = Job("j", load, Step("report", read=[1], write=len))
    ledger = run_here(job).ledger
    result = replay(1, ledger=ledger, job=job)
    assert (result.stale, result.still_open) == ((), 1)


class Unknown:
    """A user's own writer, whose sink does not say how it takes items later."""

    guarantee, address = Guarantee.EXACTLY_ONCE, "unknown"

    def open(self, scope):
        return _UnknownSink()


class _UnknownSink:
    def recall(self):
        return None

    def write(self, outputs):
        """Nowhere."""

    def commit(self, checkpoint, failures):
        """Nothing is kept."""

    def close(self):
        """Nothing is held."""

    finish = commit
    rollback = close
    failures = tuple
    classify = None


def test_a_target_that_takes_no_items_later_is_refused(tmp_path):
    ledger = MemoryLedger()
    job = Job("j", Step("s", read=["a", "b"], process=Mendable("a"), write=Unknown(), skip=Skip()))
    run_here(job, ledger=ledger)
    with pytest.raises(NotReplayableError, match=r"takes no items after it was finished.*--again") as caught:
        replay(1, ledger=ledger, job=job)
    assert caught.value.exit_code == 2
    assert {failure.state for failure in ledger.failures(1)} == {FailureState.OPEN}


def test_a_job_built_by_hand_has_to_be_given(tmp_path):
    ledger = run_here(loaded(tmp_path / "t.db", Mendable(1))).ledger
    with pytest.raises(NotReplayableError, match=r"batchwright\.replay\(1, job="):
        replay(1, ledger=ledger)


def test_another_job_is_refused(tmp_path):
    ledger = run_here(loaded(tmp_path / "t.db", Mendable(1))).ledger
    with pytest.raises(NotReplayableError, match="other work"):
        replay(1, ledger=ledger, job=Job("other", Step("load", read=[1], write=len)))


def test_an_unknown_run_and_an_unknown_step_are_named(tmp_path):
    job = loaded(tmp_path / "t.db", Mendable(1))
    ledger = run_here(job).ledger
    with pytest.raises(LedgerError, match="no run 7"):
        replay(7, ledger=ledger, job=job)
    with pytest.raises(NotReplayableError, match=r"no step 'lode'.*load"):
        replay(1, ledger=ledger, job=job, step="lode")


def test_another_target_than_that_of_the_run_is_refused(tmp_path):
    ledger = run_here(loaded(tmp_path / "t.db", Mendable(1))).ledger
    with pytest.raises(GroundChangedError, match="another target"):
        replay(1, ledger=ledger, job=loaded(tmp_path / "other.db", as_row))


def test_a_failure_replayed_keeps_its_state_when_the_run_goes_on(tmp_path):
    process = Mendable(1, 5)
    job = loaded(tmp_path / "t.db", process)
    ran = run_here(job, limit=3)
    process.refused = {5}
    assert replay(1, ledger=ran.ledger, job=job).replayed == 1
    run_here(job, ledger=ran.ledger)
    assert sorted(rows(tmp_path / "t.db")) == [0, 1, 2, 3, 4, 6, 7, 8]
    assert states(ran.ledger) == [(1, "replayed"), (5, "open")]


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
@pytest.mark.parametrize("now", [False, True])
def test_a_replay_that_is_stopped_leaves_the_rest_open_and_the_next_one_goes_on(tmp_path, chunk_size, now):
    process, stop = Mendable(*range(1, 9)), Stop()
    job = loaded(tmp_path / "t.db", process, chunk_size=chunk_size)
    ledger = run_here(job).ledger
    process.refused = set()
    process.meanwhile = lambda item: stop.request("enough", now=now) if item == 4 else None
    result = replay(1, ledger=ledger, job=job, stop=stop)
    assert result.stopped == "enough"
    assert 3 <= result.replayed < 8
    run = ledger.run(result.run)
    assert run is not None
    assert (run.kind, run.status, run.error) == ("replay", "STOPPED", "enough")
    assert sum(state == "open" for _, state in states(ledger)) == 8 - result.replayed
    assert len(rows(tmp_path / "t.db")) == 1 + result.replayed
    process.meanwhile = lambda item: None
    again = replay(1, ledger=ledger, job=job)
    assert (again.replayed, again.stopped) == (8 - result.replayed, "")
    assert sorted(rows(tmp_path / "t.db")) == list(range(9))


def test_a_replay_that_is_interrupted_is_closed_as_stopped(tmp_path):
    process = Mendable(1, 4, 7)
    job = loaded(tmp_path / "t.db", process, chunk_size=1)
    ledger = run_here(job).ledger

    def interrupt(item):
        if item == 4:
            raise KeyboardInterrupt

    process.refused, process.meanwhile = set(), interrupt
    with pytest.raises(KeyboardInterrupt):
        replay(1, ledger=ledger, job=job)
    run = ledger.run(2)
    assert run is not None
    assert (run.kind, run.status, run.error) == ("replay", "STOPPED", "interrupted")
    assert states(ledger) == [(1, "replayed"), (4, "open"), (7, "open")]


def _moved_away(path):
    path.rename(path.with_name("elsewhere.db"))


def _made_anew(path):
    _moved_away(path)
    database(path, "CREATE TABLE t (x)")


@pytest.mark.parametrize("become", [_moved_away, _made_anew])
@pytest.mark.parametrize("partitions", [None, 2])
@pytest.mark.parametrize("asked", [{}, {"dry_run": True}, {"ignore": "no use"}])
def test_a_target_that_is_gone_is_refused_before_anything_is_recorded(tmp_path, become, partitions, asked):
    process, path = Mendable(1, 4), tmp_path / "t.db"
    write = insert(url(path), "t")
    step = Step("load", read=range(9), process=process, write=write, skip=Skip(), partitions=partitions)
    job = Job("j", step, parameters={"day": 1})
    ledger = run_here(job).ledger
    process.refused = set()
    become(path)
    there, runs = path.exists(), ledger.runs()
    with pytest.raises(
        GroundChangedError, match=r"lacks work.*9 items were committed.*knows of 0.*bring the target back"
    ):
        replay(1, ledger=ledger, job=job, **asked)
    assert (ledger.runs(), path.exists()) == (runs, there)
    assert {state for _, state in states(ledger)} == {"open"}
    path.unlink(missing_ok=True)
    (tmp_path / "elsewhere.db").rename(path)
    assert replay(1, ledger=ledger, job=job).replayed == 2
