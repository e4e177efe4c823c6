"""Of several owners of one step in one target, only the last one commits."""

from contextlib import closing

import pytest
from tests.unit.engine.runs import rows, url

from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.errors import FencedError
from batchwright.model.failure import FailureState
from batchwright.ports import Scope
from batchwright.testing.fake_clock import FakeClock
from batchwright.testing.memory_store import MemoryStore
from batchwright.writers import insert

KEY = StepKey("job", "hash", 1, "step")


def opened(path, *, claims: bool = True):
    return closing(insert(url(path), "t").open(Scope(KEY, MemoryStore(), FakeClock(), claims=claims)))


def checkpoint(ordinal: int) -> Checkpoint:
    return Checkpoint(Position(ordinal), Counts(read=ordinal, written=ordinal, commits=ordinal))


def commit(sink, ordinal: int) -> None:
    sink.write([{"id": ordinal}])
    sink.commit(checkpoint(ordinal), ())


def test_who_lost_a_step_commits_nothing_even_before_its_successor_has_committed(tmp_path):
    path = tmp_path / "t.db"
    with opened(path) as zombie:
        zombie.recall()
        commit(zombie, 1)
        with opened(path) as successor:
            assert successor.recall().position.ordinal == 1
            with pytest.raises(FencedError, match="not where this run left it"):
                commit(zombie, 2)
            zombie.rollback()
            commit(successor, 2)
    assert rows(path) == [1, 2]


def test_who_is_fenced_stays_fenced_when_it_asks_again(tmp_path):
    path = tmp_path / "t.db"
    with opened(path) as zombie, opened(path) as successor:
        zombie.recall()
        commit(zombie, 1)
        successor.recall()
        with pytest.raises(FencedError):
            zombie.recall()
        commit(successor, 2)
    assert rows(path) == [1, 2]


def test_who_may_have_lost_the_step_when_it_holds_the_lock_does_not_fence_off_the_successor(tmp_path):
    path = tmp_path / "t.db"

    def over():
        raise FencedError("its time is over")

    scope = Scope(KEY, MemoryStore(), FakeClock(), claims=True, owned=over)
    with opened(path) as successor, closing(insert(url(path), "t").open(scope)) as zombie:
        successor.recall()
        commit(successor, 1)
        with pytest.raises(FencedError, match="its time is over"):
            zombie.recall()
        commit(successor, 2)
    assert rows(path) == [1, 2]


def test_who_only_looks_fences_nobody(tmp_path):
    path = tmp_path / "t.db"
    with opened(path) as owner:
        owner.recall()
        commit(owner, 1)
        with opened(path, claims=False) as looker:
            assert looker.recall().position.ordinal == 1
            assert looker.last_lap() == 1
        commit(owner, 2)
    assert rows(path) == [1, 2]


def test_a_fenced_replay_closes_no_failure(tmp_path):
    path = tmp_path / "t.db"
    with opened(path) as zombie:
        zombie.recall()
        commit(zombie, 1)
        with opened(path) as successor:
            successor.recall()
            zombie.write([{"id": 9}])
            with pytest.raises(FencedError):
                zombie.settle([0])
            zombie.rollback()
            assert [failure for failure in successor.failures() if failure.state is not FailureState.OPEN] == []
    assert rows(path) == [1]


def test_who_began_before_there_was_a_database_is_fenced_by_its_first_commit(tmp_path):
    path = tmp_path / "t.db"
    with opened(path) as first, opened(path) as second:
        assert first.recall() is None
        assert second.recall() is None
        commit(first, 1)
        with pytest.raises(FencedError):
            commit(second, 1)
        second.rollback()
    assert rows(path) == [1]
