"""Progress between commits: a chunk in work is seen to move, whoever takes the time."""

import time
from pathlib import Path

import pytest
from tests.unit.engine.runs import run_here

from batchwright import Step
from batchwright.engine import tell_progress
from batchwright.model.events import ChunkCommitted, StepMoved
from batchwright.model.waits import Waits
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import effects, insert


@pytest.fixture(autouse=True)
def told_often(monkeypatch):
    monkeypatch.setattr(tell_progress, "TELL_SECONDS", 0.0)


def busy(item, _key=""):
    until = time.perf_counter() + 0.002
    while time.perf_counter() < until:
        pass
    return item


def before_the_first_commit(step: Step) -> list[StepMoved]:
    heard: list = []
    run_here(step, observers=[heard.append])
    first = next(at for at, event in enumerate(heard) if isinstance(event, ChunkCommitted))
    return [event for event in heard[:first] if isinstance(event, StepMoved)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slow_function_is_seen_to_move_within_its_chunk(workers: int):
    moved = before_the_first_commit(Step("s", read=range(60), process=busy, write=len, workers=workers))
    assert 0 < moved[-1].read <= 60
    assert [event.fraction for event in moved] == [event.read / 60 for event in moved]
    assert [event.read for event in moved] == sorted(event.read for event in moved)


def test_slow_effects_are_seen_to_move_and_the_time_is_the_writers():
    moved = before_the_first_commit(Step("s", read=range(60), process=str, write=effects(busy)))
    assert [event.read for event in moved][-1] == 60
    assert moved[-1].waits.longest.startswith("writing")


def test_partitions_are_seen_to_move_as_the_step_that_they_are(tmp_path: Path):
    heard: list = []
    rows = [{"id": number} for number in range(100)]
    target = insert(f"sqlite:///{tmp_path}/t.db", "t")
    run_here(Step("s", read=rows, process=busy, write=target, chunk_size=25, partitions=4), observers=[heard.append])
    moved = [event for event in heard if isinstance(event, StepMoved)]
    assert isinstance(next(event for event in heard if isinstance(event, ChunkCommitted | StepMoved)), StepMoved)
    assert [event.read for event in moved] == sorted(event.read for event in moved)
    assert moved[-1].read > 75, "the items of the other partitions are counted, too"
    assert [event.fraction for event in moved] == pytest.approx([event.read / 100 for event in moved])


def test_a_first_item_that_takes_long_is_told_of_while_others_are_done():
    heard: list = []

    def first_is_slow(item):
        while item == 0 and not any(isinstance(event, StepMoved) for event in heard):
            pass
        return item

    run_here(Step("s", read=range(20), process=first_is_slow, write=len, workers=2), observers=[heard.append])
    moved = [event for event in heard if isinstance(event, StepMoved)]
    assert moved[0].read == 0
    assert moved[0].waits != Waits(), "what is waited for is known"


def test_nothing_is_told_more_often_than_a_few_times_a_second(monkeypatch):
    monkeypatch.undo()
    clock = FakeClock()
    heard: list = []

    def tenth(output, _key):
        clock.advance(0.1)
        return output

    run_here(Step("s", read=range(40), write=effects(tenth)), observers=[heard.append], clock=clock)
    moved = [event for event in heard if isinstance(event, StepMoved)]
    assert 10 <= len(moved) <= 20
