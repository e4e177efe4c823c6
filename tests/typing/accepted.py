"""What the type checker must accept. Nothing here is run."""

from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, assert_type

from batchwright import (
    DROP,
    Drop,
    Job,
    JobResult,
    Loop,
    NonIdentifying,
    Retry,
    Secret,
    Skip,
    Step,
    distinct,
    each,
    replay,
    resumable,
    run,
)
from batchwright.model.events import Event
from batchwright.ports import Reader, Writer
from batchwright.readers import csv_rows, json_lines, query, text_lines
from batchwright.writers import csv_file, execute, insert, json_lines_file, text_file, upsert


def to_number(text: str) -> int:
    return int(text)


def to_number_or_drop(text: str) -> int | Drop:
    return int(text) if text else DROP


def to_numbers(text: str) -> Iterator[int]:
    yield from map(int, text.split())


async def to_number_later(text: str) -> int:
    return int(text)


async def to_number_or_drop_later(text: str) -> int | Drop:
    return to_number_or_drop(text)


async def to_numbers_later(text: str) -> AsyncIterator[int]:
    yield int(text)


def take_numbers(numbers: Sequence[int]) -> None:
    """A writer of numbers."""


def take_number(number: int) -> None:
    """A function of one number."""


class Counting:
    """An object that is called."""

    def __call__(self, text: str) -> int:
        return len(text)


def scaled(factor: int, text: str) -> int:
    return factor * len(text)


def listen(event: Event) -> None:
    """An observer."""


def bound(reader: Reader[Any], writer: Writer[Any]) -> Step[Any, Any]:
    return Step("ports", read=reader, write=writer)


def texts() -> Iterator[str]:
    yield "1"


assert_type(Step("function", read=["1"], process=to_number, write=take_numbers), Step[str, int])
assert_type(Step("drop", read=["1"], process=to_number_or_drop, write=take_numbers), Step[str, int])
assert_type(Step("generator", read=["1"], process=to_numbers, write=take_numbers), Step[str, int])
assert_type(Step("async", read=["1"], process=to_number_later, write=take_numbers), Step[str, int])
assert_type(Step("async drop", read=["1"], process=to_number_or_drop_later, write=take_numbers), Step[str, int])
assert_type(Step("object", read=["1"], process=Counting(), write=take_numbers), Step[str, int])
Step("partial", read=["1"], process=partial(scaled, 2), write=take_numbers)
assert_type(Step("async generator", read=["1"], process=to_numbers_later, write=take_numbers), Step[str, int])
assert_type(Step("no processor", read=[1], write=take_numbers), Step[int, int])
assert_type(Step("source function", read=texts, process=to_number, write=take_numbers), Step[str, int])
assert_type(Step("each", read=["1"], process=to_number, write=each(take_number)), Step[str, int])
assert_type(Step("distinct", read=["1"], process=distinct(key=len), write=print), Step[str, str])
assert_type(Step("and a", read=["1"], process=distinct(key="a", then=to_number), write=take_numbers), Step[str, int])
assert_type(Step("and b", read=["1"], process=distinct(key="a", then=to_numbers), write=take_numbers), Step[str, int])
assert_type(
    Step("and c", read=["1"], process=distinct(key=len, then=to_number_or_drop), write=take_numbers), Step[str, int]
)
assert_type(
    Step("and d", read=["1"], process=distinct(key=("a",), then=to_number_later), write=take_numbers), Step[str, int]
)
assert_type(
    Step("and e", read=["1"], process=distinct(key="a", then=to_numbers_later), write=take_numbers), Step[str, int]
)
Step("rows", read=csv_rows("a.csv"), process=distinct(key="id"), write=insert("sqlite:///b.db", "t"))
Step("field", read=csv_rows("a.csv"), process=distinct(key=lambda row: row["id"].lower()), write=csv_file("b.csv"))

Step("lines", read=text_lines("a.txt"), write=text_file("b.txt"))
Step("csv", read=csv_rows("a.csv"), write=csv_file("b.csv"))
Step("json", read=json_lines("a.jsonl"), write=json_lines_file("b.jsonl"))
Step("insert", read=query("sqlite:///a.db", "SELECT 1 AS id", key="id"), write=insert("sqlite:///b.db", "t"))
Step("upsert", read=csv_rows("a.csv"), write=upsert("sqlite:///b.db", "t", key=("id", "day")))
Step("execute", read=[{"id": 1}], write=execute("sqlite:///b.db", "UPDATE t SET n = n + 1 WHERE id = :id"))
Step(
    "options",
    read=[1],
    write=take_numbers,
    chunk_size=10,
    retry=Retry(),
    skip=Skip(on=(ValueError, KeyError)),
    after=(),
)


def job(day: str) -> Job:
    return Job("job", Step("step", read=[day], write=text_file("days.txt")))


assert_type(Job.of(job, day="2026-11-22"), Job)
assert_type(run(Job.of(job, day="2026-11-22")), JobResult)
assert_type(run(Step("single", read=[1], write=take_numbers)), JobResult)
assert_type(run(Job.of(job, day="2026-11-22")).read, int)


def parameters(day: str, workers: Annotated[int, NonIdentifying] = 1, key: Annotated[str, Secret] = "") -> Job:
    return Job("job", Step("step", read=[day], write=text_file(Path(key))), parameters={"workers": workers})


result = run(Job.of(parameters, day="x"), observers=[listen], check=False, ledger=Path("ledger.db"), max_failures="1%")
for failure in result.failures:
    assert_type(failure.error, str)
assert_type(replay(result.run, ledger="ledger.db").replayed, int)

with resumable("loop", [1, 2], skip=Skip(on=ValueError), parameters={"day": 1}) as loop:
    assert_type(loop, Loop[int])
    for number in loop:
        with loop.item():
            assert_type(number, int)
assert_type(loop.result, JobResult)
