"""Laws that hold for any input, any kind of processor and any chunk size, and bugs that they would see."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from tests.crash import planted
from tests.unit.engine.runs import Blocks, Ran, bad, rows, run_here, url

from batchwright import DROP, Job, Retry, Skip, Step
from batchwright.engine.stop import Stop
from batchwright.ledgers.memory import MemoryLedger
from batchwright.testing.fake_clock import FakeClock
from batchwright.writers import insert, text_file
from batchwright.writers.sqlite import SqlSink
from batchwright.writers.staged_files import StagedSink

FATES = ("pass", "pass", "pass", "drop", "fail", "flaky", "refused", "two", "two, one refused", "bad record")

KINDS = ("none", "function", "generator", "async", "async generator")

TARGETS = ("table", "file")

MEMORY = Path("/dev/shm")

SEEN_WITHIN = 300

FAST = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


class PowerCutError(Exception):
    """Ends a run, as nothing that is skipped or tried again does."""


@dataclass(frozen=True)
class Case:
    """An input in blocks, each item with its fate; how it is processed, how long that takes, and where to."""

    blocks: tuple[tuple[str, ...], ...]
    kind: str
    target: str
    chunk_size: int
    interrupted: tuple[str, int] = ("item", 0)
    seconds: float = 0.0
    divisible: bool = True

    @property
    def fates(self) -> list[str]:
        """What is to become of each item; without a processor it can only pass, be refused or be bad."""
        plain = [fate for block in self.blocks for fate in block]
        if self.kind == "none":
            return [fate if fate in ("refused", "bad record") else "pass" for fate in plain]
        return [fate.split(",")[0] if self.kind in ("function", "async") and "two" in fate else fate for fate in plain]

    def expected(self) -> list[str]:
        """The outputs, by an arithmetic of its own."""
        many = self.kind in ("generator", "async generator")
        return [
            f"{number}{part}"
            for number, fate in enumerate(self.fates)
            for part in (("", "b") if fate == "two" and many else ("",))
            if fate in ("pass", "flaky", "two")
        ]

    def expected_counts(self) -> tuple[int, int, int, int]:
        """Read, written, filtered, failed."""
        fates = self.fates
        failed = sum(fate in ("fail", "refused", "two, one refused", "bad record") for fate in fates)
        return len(fates), len(fates) - failed - fates.count("drop"), fates.count("drop"), failed


cases = st.builds(
    Case,
    st.lists(st.lists(st.sampled_from(FATES), min_size=1, max_size=7).map(tuple), max_size=5).map(tuple),
    st.sampled_from(KINDS),
    st.sampled_from(TARGETS),
    st.integers(1, 9),
    st.tuples(st.sampled_from(("item", "write", "commit", "failures", "checkpoint", "finish")), st.integers(0, 12)),
)

slow_cases = st.builds(
    Case,
    st.lists(st.lists(st.sampled_from(FATES), min_size=1, max_size=30).map(tuple), max_size=4).map(tuple),
    st.sampled_from(KINDS[1:]),
    st.sampled_from(TARGETS),
    st.integers(17, 90),
    st.tuples(st.sampled_from(("item", "stop", "write", "commit", "checkpoint")), st.integers(0, 90)),
    st.sampled_from((0.01, 0.4, 2.0, 6.0)),
    st.booleans(),
)
"""Chunks of more items than are processed between two looks at the clock."""

FAILS_TO_SAVE = Case((("pass", "pass", "pass", "refused"),), "none", "file", 3, ("checkpoint", 1))
"""A staged file whose last checkpoint cannot be saved, with a failure behind the one before."""


@FAST
@given(cases)
def test_every_item_is_written_filtered_or_failed_and_every_output_is_there(case: Case):
    with folder() as here:
        ran = run_case(case, here)
        assert ran.counts == case.expected_counts()
        assert outputs_of(case, here) == case.expected()


@FAST
@given(cases, st.integers(1, 50))
def test_any_chunk_size_gives_the_same_output(case: Case, chunk_size: int):
    with folder() as one, folder() as other:
        first = run_case(case, one)
        second = run_case(Case(case.blocks, case.kind, case.target, chunk_size), other)
        assert told(first) == told(second)
        assert outputs_of(case, one) == outputs_of(case, other)


@FAST
@given(cases)
@example(FAILS_TO_SAVE)
def test_interrupted_anywhere_and_run_again_it_ends_as_if_it_had_not_been(case: Case):
    with folder() as one, folder() as other:
        assert not restart_differs(case, one, other)


@FAST
@given(slow_cases)
def test_chunks_that_are_cut_by_time_give_the_same_output(case: Case):
    with folder() as one, folder() as other:
        assert told(run_case(replace(case, seconds=0.0), one)) == told(run_case(case, other))
        assert outputs_of(case, one) == outputs_of(case, other) == case.expected()
        assert audited(case, one) == audited(case, other)


@FAST
@given(slow_cases)
def test_interrupted_among_chunks_that_are_cut_by_time_it_ends_as_if_it_had_not_been(case: Case):
    with folder() as one, folder() as other:
        assert not restart_differs(case, one, other)


@pytest.mark.parametrize(
    ("bug", "other_ledger"),
    [
        (planted.position_asked_at_commit_time, False),
        (planted.checkpoint_outside_the_transaction, False),
        (planted.failures_stored_apart, False),
        (planted.no_savepoint, False),
        (planted.ledger_local_keys, True),
    ],
)
def test_the_law_of_restart_sees_a_planted_bug(
    bug: Callable[[Any], None], other_ledger: object, monkeypatch: pytest.MonkeyPatch
):
    def seen(case: Case) -> bool:
        with folder() as one, folder() as other:
            run_case(case, one)
            with monkeypatch.context() as patch:
                bug(patch.setattr)
                try:
                    return restart_differs(case, one, other, undisturbed=False, other_ledger=bool(other_ledger))
                except AssertionError:
                    return True

    try:
        find(cases, seen, settings=settings(deadline=None, max_examples=SEEN_WITHIN, database=None), random=Random(1))
    except NoSuchExample:
        pytest.fail(f"nobody sees {bug.__name__}")


@FAST
@given(cases)
def test_with_another_ledger_a_table_is_gone_on_with(case: Case):
    table = Case(case.blocks, case.kind, "table", case.chunk_size, case.interrupted)
    with folder() as one, folder() as other:
        assert not restart_differs(table, one, other, other_ledger=True)


def restart_differs(
    case: Case, one: Path, other: Path, *, undisturbed: bool = True, other_ledger: bool = False
) -> bool:
    """Whether a run in `other` that is interrupted and run again differs from an undisturbed one in `one`."""
    if undisturbed:
        run_case(case, one)
    ledger = MemoryLedger()
    interrupt(case, other, ledger)
    again = run_case(case, other, MemoryLedger() if other_ledger else ledger)
    return (
        again.counts != case.expected_counts()
        or told(again)[1] != told_failures(case)
        or outputs_of(case, other) != outputs_of(case, one)
        or audited(case, other) != audited(case, one)
    )


def run_case(case: Case, here: Path, ledger: MemoryLedger | None = None) -> Ran:
    """Run a case to its end."""
    clock = FakeClock()
    return run_here(as_job(step_of(case, here, clock)), ledger=ledger, clock=clock)


def interrupt(case: Case, here: Path, ledger: MemoryLedger) -> None:
    """Run a case until something ends it, if it comes to that."""
    what, number = case.interrupted
    clock, stop = FakeClock(), Stop()

    def reaches(item: int) -> None:
        if item == number and what == "item":
            raise PowerCutError
        if item == number and what == "stop":
            stop.request("the law")

    step = step_of(case, here, clock, reaches)
    options = {name: getattr(step, name) for name in ("chunk_size", "retry", "skip", "checkpoint_seconds")}
    owner, name = CALLS[case.target].get(what, (None, ""))
    with pytest.MonkeyPatch.context() as patch:
        if owner is not None:
            patch.setattr(owner, name, raising_at(number, getattr(owner, name)))
        job = as_job(Step("law", read=step.read, process=step.process, write=step.write, **options))
        run_here(job, ledger=ledger, clock=clock, stop=stop)


CALLS: dict[str, dict[str, tuple[Any, str]]] = {
    "table": {
        "write": (SqlSink, "write"),
        "commit": (SqlSink, "commit"),
        "failures": (planted.sqlite_records, "put_failures"),
        "checkpoint": (planted.sqlite_records, "move_checkpoint"),
        "finish": (SqlSink, "finish"),
    },
    "file": {
        "write": (StagedSink, "write"),
        "commit": (StagedSink, "commit"),
        "checkpoint": (MemoryLedger, "save_checkpoint"),
        "finish": (StagedSink, "finish"),
    },
}


def raising_at(number: int, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which raises at this number of calls instead."""
    calls = count()

    def raising(*arguments: Any) -> Any:
        if next(calls) == number:
            raise PowerCutError
        return call(*arguments)

    return raising


def as_job(step: Step[Any, Any]) -> Job:
    """With a parameter: what is finished is not begun anew."""
    return Job("law", step, parameters={"day": 1})


def step_of(
    case: Case, here: Path, clock: FakeClock, reaches: Callable[[int], None] = lambda _: None
) -> Step[Any, Any]:
    """The step of a case; its processor says which item it reaches, and takes its time."""
    numbered, number = [], 0
    fates = iter(case.fates)
    for block in case.blocks:
        numbered.append([item_of(case, number + index, next(fates)) for index in range(len(block))])
        number += len(block)
    target: Any = text_file(here / "out.txt")
    if case.target == "table":
        prepare(here / "out.db")
        target = insert(url(here / "out.db"), "t")
    return Step(
        "law",
        read=Blocks(numbered, divisible=case.divisible),
        process=processor(case, clock, reaches),
        write=target,
        chunk_size=case.chunk_size,
        retry=Retry(on=OSError, delay_seconds=0),
        skip=Skip(on=(ValueError, TypeError, planted.sqlite3.IntegrityError)),
        checkpoint_seconds=0 if case.chunk_size % 2 else 1,
    )


def item_of(case: Case, number: int, fate: str) -> Any:
    """An item, a bad record, or, where nothing processes it, an output."""
    if fate == "bad record":
        return bad()
    return output(case, f"{number}", refused=fate == "refused") if case.kind == "none" else (number, fate)


def output(case: Case, text: str, *, refused: bool = False) -> Any:
    """What the target takes, or refuses."""
    if case.target == "table":
        return {"text": text, "fine": 0 if refused else 1}
    return f"{text}\n" if refused else text


def processor(case: Case, clock: FakeClock, reaches: Callable[[int], None]) -> Callable[[Any], Any] | None:
    """A processor of the case's kind, which does to each item what its fate is."""
    tried: set[int] = set()

    def settle(item: tuple[int, str]) -> list[Any]:
        number, fate = item
        reaches(number)
        clock.advance(case.seconds)
        if fate == "flaky" and number not in tried:
            tried.add(number)
            raise OSError("try again")
        return outputs_for(case, number, fate)

    def function(item: Any) -> Any:
        return next(iter(settle(item)), DROP)

    def generator(item: Any) -> Iterator[Any]:
        yield from settle(item)

    async def coroutine(item: Any) -> Any:
        return next(iter(settle(item)), DROP)

    async def stream(item: Any) -> AsyncIterator[Any]:
        for each in settle(item):
            yield each

    kinds = {"function": function, "generator": generator, "async": coroutine, "async generator": stream}
    return kinds.get(case.kind)


def outputs_for(case: Case, number: int, fate: str) -> list[Any]:
    """What a processor makes of an item."""
    if fate == "fail":
        raise ValueError(f"item {number}")
    if fate == "drop":
        return []
    first = output(case, f"{number}", refused=fate == "refused")
    second = output(case, f"{number}b", refused=fate == "two, one refused")
    return [first, second] if fate.startswith("two") else [first]


def prepare(path: Path) -> None:
    """A table with a rule, and a trigger that leaves a trace of each row before it judges it."""
    if not path.exists():
        with planted.sqlite3.connect(path) as connection:
            connection.executescript(
                "CREATE TABLE t (text TEXT, fine INTEGER); CREATE TABLE audit (text TEXT);"
                "CREATE TRIGGER audited BEFORE INSERT ON t BEGIN INSERT INTO audit VALUES (NEW.text); "
                "SELECT RAISE(FAIL, 'not fine') WHERE NOT NEW.fine; END;"
            )
        connection.close()


def outputs_of(case: Case, here: Path) -> list[str]:
    """What is in the target, in order."""
    if case.target == "table":
        return rows(here / "out.db", "SELECT text FROM t ORDER BY rowid")
    return (here / "out.txt").read_text().splitlines()


def audited(case: Case, here: Path) -> list[str]:
    """What the trigger has left."""
    return rows(here / "out.db", "SELECT text FROM audit ORDER BY rowid") if case.target == "table" else []


def told(ran: Ran) -> tuple[Any, list[int]]:
    """Counts and failures, as people are told."""
    return ran.counts, [failure.ordinal for failure in ran.failures]


def told_failures(case: Case) -> list[int]:
    """Where items fail."""
    failing = ("fail", "refused", "two, one refused", "bad record")
    return [number for number, fate in enumerate(case.fates) if fate in failing]


def folder() -> Any:
    """A folder for one run, in memory where that can be."""
    made: Any = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
    return _AsPath(made)


class _AsPath:
    def __init__(self, made: Any) -> None:
        self._made = made

    def __enter__(self) -> Path:
        return Path(self._made.__enter__())

    def __exit__(self, *error: object) -> None:
        self._made.__exit__(*error)
