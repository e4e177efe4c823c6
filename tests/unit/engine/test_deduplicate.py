"""`distinct`: the first good item of each key goes through, whatever fails and wherever the run is stopped."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.runs import Blocks, Breaking, bad, database, rows, run_here, url

from batchwright import DROP, ConfigurationError, ItemsFailed, Job, Retry, Skip, Step, distinct, dry_run, each
from batchwright.databases import sqlite_keys
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.failure import Phase
from batchwright.writers import insert, text_file

ANY = Skip(on=Exception)

ONE_BAD = "CREATE TABLE t (k, n, fate CHECK (fate <> 'refused'))"

AT_COMMIT = """CREATE TABLE fates (fate PRIMARY KEY); INSERT INTO fates VALUES ('good');
               CREATE TABLE t (k, n, fate REFERENCES fates DEFERRABLE INITIALLY DEFERRED)"""


@dataclass(frozen=True)
class Item:
    """What is read: its key, its number, and what becomes of it if it passes."""

    k: str
    n: int
    fate: str


def as_row(item: Item) -> dict[str, Any]:
    if item.fate == "bad":
        raise ValueError("bad")
    return {"k": item.k, "n": item.n, "fate": item.fate}


def as_rows(item: Item) -> Iterator[dict[str, Any]]:
    yield {**as_row(item), "fate": "good"}
    yield as_row(item)


async def as_row_later(item: Item) -> dict[str, Any]:
    return as_row(item)


async def as_rows_later(item: Item) -> AsyncIterator[dict[str, Any]]:
    for row in as_rows(item):
        yield row


def as_line(item: Item) -> str:
    row = as_row(item)
    return f"{row['n']}\ud800" if item.fate == "refused" else str(row["n"])


def first_good(items: Sequence[Item]) -> tuple[list[int], list[int]]:
    """The numbers of the items that are written, and of those that fail: the oracle, in words of its own."""
    written, failed, seen = [], [], set()
    for item in items:
        if item.k in seen:
            continue
        if item.fate == "good":
            seen.add(item.k)
            written.append(item.n)
        else:
            failed.append(item.n)
    return written, failed


def kept_keys(path: Path) -> int:
    """How many keys are stored, in whichever way."""
    new = rows(path, "SELECT coalesce(sum(length(digests)), 0) / 16 FROM batchwright_new_keys")
    return sum(rows(path, "SELECT count(*) FROM batchwright_keys") + new)


def run_until_done(step: Step[Any, Any], limits: Sequence[int]) -> Any:
    """Run again and again: limited at first, then to the end. Each run goes on where the one before stopped."""
    ledger, job = MemoryLedger(), Job("j", step, parameters={"day": 1})
    for limit in limits:
        run_here(job, ledger=ledger, limit=limit)
    return run_here(job, ledger=ledger)


items_of = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["good", "bad", "refused"])), max_size=24).map(
    lambda pairs: [Item(k, n, fate) for n, (k, fate) in enumerate(pairs)]
)
limits_of = st.lists(st.integers(1, 9), max_size=3)


def assert_first_good(ran: Any, items: Sequence[Item], written: Sequence[int], *, in_order: bool = True) -> None:
    good, failed = first_good(items)
    assert (list(written) if in_order else sorted(written)) == good
    assert [failure.ordinal for failure in ran.failures] == failed
    assert ran.counts == (len(items), len(good), len(items) - len(good) - len(failed), len(failed))


@dataclass(frozen=True)
class Course:
    """How a table is filled: in which chunks, from which blocks, stopped where, by what kind of processor."""

    size: int
    blocks: int
    divisible: bool
    limits: Sequence[int]
    script: str
    then: Any


courses_of = st.builds(
    Course,
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
    limits_of,
    st.sampled_from([ONE_BAD, AT_COMMIT]),
    st.sampled_from([as_row, as_rows, as_row_later, as_rows_later]),
)


@settings(max_examples=150, deadline=None)
@given(items=items_of, course=courses_of, most_new=st.sampled_from([1, 3, 100_000]))
def test_the_first_good_item_of_each_key_is_in_the_table_wherever_it_is_stopped(
    items, course, most_new, tmp_path_factory
):
    path = database(tmp_path_factory.mktemp("t") / "t.db", course.script)
    # A block that cannot be divided cannot be committed in parts either.
    divisible = course.divisible or course.script == AT_COMMIT
    source = Blocks([items[n : n + course.blocks] for n in range(0, len(items), course.blocks)], divisible)
    process, write = distinct(key="k", then=course.then), insert(url(path), "t")
    step = Step("s", read=source, process=process, write=write, chunk_size=course.size, skip=ANY)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sqlite_keys, "MOST_NEW_KEYS", most_new)
        ran = run_until_done(step, course.limits)
    assert_first_good(ran, items, rows(path, "SELECT DISTINCT n FROM t ORDER BY rowid"))
    many = 2 if course.then in (as_rows, as_rows_later) else 1
    assert rows(path, "SELECT count(*) FROM t") == [many * ran.counts[1]]
    kept = kept_keys(path) if items else 0
    assert kept == (ran.counts[1] if ran.counts[3] else 0)


@settings(max_examples=100, deadline=None)
@given(items=items_of, size=st.integers(1, 9), limits=limits_of, seconds=st.sampled_from([0.0, 1.0]))
def test_the_first_good_item_of_each_key_is_in_the_file(items, size, limits, seconds, tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "t.txt"
    step = Step(
        "s",
        read=items,
        process=distinct(key="k", then=as_line),
        write=text_file(path),
        chunk_size=size,
        skip=ANY,
        checkpoint_seconds=seconds,
    )
    ran = run_until_done(step, limits)
    assert_first_good(ran, items, [int(line) for line in path.read_text().splitlines()])


@settings(max_examples=100, deadline=None)
@given(items=items_of, size=st.integers(1, 9), limits=limits_of, one_by_one=st.booleans())
def test_a_function_gets_the_first_good_item_of_each_key_once(items, size, limits, one_by_one):
    taken: list[int] = []

    def take(row: dict[str, Any]) -> None:
        if row["fate"] == "refused":
            raise ValueError("refused")
        taken.append(row["n"])

    def take_all(given: list[dict[str, Any]]) -> None:
        errors: dict[int, BaseException] = {}
        for index, row in enumerate(given):
            try:
                take(row)
            except ValueError as error:
                errors[index] = error
        if errors:
            raise ItemsFailed(errors)

    write: Any = each(take) if one_by_one else take_all
    step = Step("s", read=items, process=distinct(key="k", then=as_row), write=write, chunk_size=size, skip=ANY)
    ran = run_until_done(step, limits)
    # What takes the place of a refused item is handed over behind the rest of its chunk.
    assert_first_good(ran, items, taken, in_order=False)


@settings(max_examples=60, deadline=None)
@given(
    items=items_of, size=st.integers(1, 9), broken=st.sets(st.integers(1, 8)), call=st.sampled_from(["write", "commit"])
)
def test_a_chunk_that_is_written_again_after_a_passing_error_keeps_keys_and_rows_in_step(
    items, size, broken, call, tmp_path_factory
):
    path = database(tmp_path_factory.mktemp("t") / "t.db", ONE_BAD)

    def locked(name: str, number: int) -> None:
        if name == call and number in broken:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error

    step = Step(
        "s",
        read=items,
        process=distinct(key="k", then=as_row),
        write=Breaking(insert(url(path), "t"), locked),
        chunk_size=size,
        skip=ANY,
        write_retry=Retry(on=sqlite3.OperationalError, attempts=20, delay_seconds=0),
    )
    assert_first_good(run_here(step), items, rows(path, "SELECT n FROM t ORDER BY rowid"))


def test_without_skip_the_step_stops_at_the_first_failure_and_goes_on_there(tmp_path: Path) -> None:
    path, ledger, mended = tmp_path / "t.db", MemoryLedger(), []

    def sometimes(item: Item) -> dict[str, Any]:
        return {"n": item.n} if mended else as_row(item) and {"n": item.n}

    items = [Item("a", 0, "good"), Item("b", 1, "bad"), Item("b", 2, "good"), Item("a", 3, "good")]
    step = Step("s", read=items, process=distinct(key="k", then=sometimes), write=insert(url(path), "t"))
    stopped = run_here(step, ledger=ledger)
    assert isinstance(stopped.error, ValueError)
    assert stopped.counts == (1, 1, 0, 0)
    mended.append(True)
    assert run_here(step, ledger=ledger).counts == (4, 2, 2, 0)
    assert rows(path) == [0, 1]


def test_an_item_that_is_dropped_behind_distinct_has_been_seen(tmp_path: Path) -> None:
    items = [{"id": 1, "ok": False}, {"id": 1, "ok": True}, {"id": 2, "ok": True}]
    only_ok = distinct(key="id", then=lambda row: row if row["ok"] else DROP)
    ran = run_here(Step("s", read=items, process=only_ok, write=insert(url(tmp_path / "t.db"), "t")))
    assert rows(tmp_path / "t.db", "SELECT id FROM t") == [2]
    assert ran.counts == (3, 1, 2, 0)


def test_keys_may_be_several_fields_or_a_function_and_unhashable(tmp_path: Path) -> None:
    items = [{"a": n % 2, "b": [n % 3], "c": n} for n in range(12)]

    def numbers(key: Any) -> list[Any]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.txt"
        run_here(
            Step("s", read=items, process=distinct(key=key, then=lambda row: str(row["c"])), write=text_file(path))
        )
        return path.read_text().split()

    assert numbers("b") == ["0", "1", "2"]
    assert numbers(["a", "b"]) == ["0", "1", "2", "3", "4", "5"]
    assert numbers(lambda row: row["a"]) == ["0", "1"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "no field 'id'; it has other"),
        ({"id": None}, "no key; its key is None"),
        ({"id": float("nan")}, "nan cannot be stored"),
        ({"id": object()}, "cannot be stored"),
    ],
)
def test_an_item_without_a_key_of_its_own_fails_and_is_kept(value, words, tmp_path):
    items = [{"id": 1, "other": 0}, {"other": 1, **value}, {"id": 1, "other": 2}]
    step = Step(
        "s",
        read=items,
        process=distinct(key="id", then=lambda row: str(row["other"])),
        write=text_file(tmp_path / "t"),
        skip=ANY,
    )
    ran = run_here(step)
    assert ran.counts == (3, 1, 1, 1)
    (failure,) = ran.failures
    assert (failure.ordinal, failure.phase) == (1, Phase.PROCESS)
    assert words in failure.error


def test_a_key_with_none_among_several_fields_is_a_key(tmp_path: Path) -> None:
    items = [{"a": 1, "b": None}, {"a": 1, "b": None}, {"a": None, "b": None}]
    step = Step(
        "s",
        read=items,
        process=distinct(key=("a", "b"), then=lambda row: str(row["a"])),
        write=text_file(tmp_path / "t"),
        skip=ANY,
    )
    assert run_here(step).counts == (3, 1, 1, 1)


def test_keys_whose_function_ends_the_process_are_failures(tmp_path: Path) -> None:
    def key(item: int) -> int:
        if item == 1:
            raise SystemExit(3)
        if item == 2:
            raise StopIteration
        return item

    step = Step(
        "s",
        read=range(4),
        process=distinct(key=key, then=str),
        write=text_file(tmp_path / "t"),
        skip=Skip(on=BaseException),
    )
    assert run_here(step).counts == (4, 2, 0, 2)
    assert (tmp_path / "t").read_text().split() == ["0", "3"]


def test_records_that_cannot_be_read_do_not_shift_keys(tmp_path: Path) -> None:
    source = Blocks([["a", bad(), "b", "a"], [bad(), "b", "c"]])
    step = Step("s", read=source, process=distinct(key=str), write=text_file(tmp_path / "t"), skip=ANY, chunk_size=5)
    assert run_here(step).counts == (7, 3, 2, 2)
    assert (tmp_path / "t").read_text().split() == ["a", "b", "c"]


def test_two_steps_of_a_job_share_no_keys(tmp_path: Path) -> None:
    def step(name: str) -> Step[Any, Any]:
        rows = [{"id": 1}, {"id": 1}]
        return Step(name, read=rows, process=distinct(key="id"), write=insert(url(tmp_path / "t.db"), "t"))

    assert run_here(Job("j", step("one"), step("two"))).counts == (4, 2, 2, 0)


def test_workers_are_refused_for_distinct(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="distinct takes one item after another"):
        Step("s", read=[1], process=distinct(key=str, then=str), write=text_file(tmp_path / "t"), workers=2)


def test_a_trial_tells_first_ones_from_others_and_writes_nothing(tmp_path: Path) -> None:
    step = Step(
        "s", read=[1, 2, 1, 2], process=distinct(key=str, then=str), write=text_file(tmp_path / "t"), chunk_size=1
    )
    (trial,) = dry_run(Job("j", step)).steps
    assert (trial.counts.written, trial.counts.filtered) == (2, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "declared", [{"key": ""}, {"key": []}, {"key": 3}, {"key": "id", "then": 3}, {"key": "id", "across_laps": 3}]
)
def test_what_cannot_be_meant_is_refused(declared):
    with pytest.raises(ConfigurationError, match="distinct: "):
        distinct(**declared)
    with pytest.raises(ConfigurationError, match="another distinct"):
        distinct(key="a", then=distinct(key="b"))
    with pytest.raises(ConfigurationError, match="works as the process= of a step only"):
        distinct(key="a")({"a": 1})


class TestLaps:
    """Keys of one lap and of several; a job without parameters begins anew each time it is run."""

    @pytest.fixture(params=["table", "file", "function"])
    def target(self, request, tmp_path):
        self.taken: list[Any] = []
        if request.param == "table":
            return insert(url(tmp_path / "t.db"), "t")
        if request.param == "file":
            return text_file(tmp_path / "t.txt")
        return self.taken.extend

    def step(self, feed: list[int], target: Any, *, across_laps: bool, chunk_size: int = 2) -> Step[Any, Any]:
        then = str if not hasattr(target, "conflict") else (lambda n: {"n": n})
        process = distinct(key=lambda n: n, then=then, across_laps=across_laps)
        return Step("s", read=feed, process=process, write=target, chunk_size=chunk_size)

    def test_by_default_each_lap_begins_fresh(self, target):
        ledger = MemoryLedger()
        assert run_here(self.step([1, 2, 1], target, across_laps=False), ledger=ledger).counts == (3, 2, 1, 0)
        assert run_here(self.step([1, 2, 1], target, across_laps=False), ledger=ledger).counts == (3, 2, 1, 0)

    def test_across_laps_what_a_finished_lap_has_written_is_filtered(self, target):
        ledger = MemoryLedger()
        assert run_here(self.step([1, 2, 1], target, across_laps=True), ledger=ledger).counts == (3, 2, 1, 0)
        assert run_here(self.step([2, 3, 4], target, across_laps=True), ledger=ledger).counts == (3, 2, 1, 0)
        assert run_here(self.step([1, 3, 5], target, across_laps=True), ledger=ledger).counts == (3, 1, 2, 0)

    def test_a_finished_lap_counts_even_where_the_job_is_begun_again(self, target):
        ledger = MemoryLedger()
        run_here(self.step([1, 2], target, across_laps=True), ledger=ledger)
        again = run_here(self.step([1, 2, 3], target, across_laps=True), ledger=ledger, again=True, confirmed=True)
        assert again.counts == (3, 1, 2, 0)

    def test_a_lap_that_was_not_finished_does_not_count_for_later_ones(self, target):
        ledger = MemoryLedger()
        run_here(self.step([1, 2, 3, 4], target, across_laps=True), ledger=ledger, limit=2)
        again = run_here(self.step([1, 2, 3, 4], target, across_laps=True), ledger=ledger, again=True, confirmed=True)
        assert again.counts == (4, 4, 0, 0)
        later = run_here(self.step([1, 2, 3, 4, 5], target, across_laps=True), ledger=ledger)
        assert later.counts == (5, 1, 4, 0)

    def test_a_lap_that_is_gone_on_with_knows_its_own_keys(self, target):
        ledger = MemoryLedger()
        run_here(self.step([1, 2, 1, 2, 3], target, across_laps=True), ledger=ledger, limit=2)
        assert run_here(self.step([1, 2, 1, 2, 3], target, across_laps=True), ledger=ledger).counts == (5, 3, 2, 0)
