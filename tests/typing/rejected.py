"""What the type checker must reject: an ignore that is not needed is an error. Nothing here is run."""

from collections.abc import Iterator, Sequence

from batchwright import Job, Retry, Skip, Step, each, resumable, run
from batchwright.readers import text_lines
from batchwright.writers import insert, text_file, upsert


def to_number(text: str) -> int:
    return int(text)


async def to_number_later(text: str) -> int:
    return int(text)


def to_numbers(text: str) -> Iterator[int]:
    yield int(text)


def take_texts(texts: Sequence[str]) -> None:
    """A writer of texts."""


def take_text(text: str) -> None:
    """A function of one text."""


Step("writer", read=["1"], process=to_number, write=take_texts)  # type: ignore[arg-type]  # texts, not numbers
Step("each", read=["1"], process=to_number, write=each(take_text))  # type: ignore[arg-type]  # texts, not numbers
Step("file", read=["1"], process=to_number, write=text_file("a.txt"))  # type: ignore[arg-type]  # texts, not numbers
Step("async", read=["1"], process=to_number_later, write=take_texts)  # type: ignore[arg-type]  # texts, not numbers
Step("generator", read=["1"], process=to_numbers, write=take_texts)  # type: ignore[misc]  # texts, not numbers
Step("processor", read=[1], process=to_number, write=print)  # type: ignore[arg-type, misc]  # the items are no texts
Step("passed on", read=[1], write=take_texts)  # type: ignore[misc]  # the items are no texts
Step("reader", read=3, write=print)  # type: ignore[call-overload]  # a number cannot be read
Step("positional", ["1"], print)  # type: ignore[call-overload]  # read and write are named
Step("no writer", read=["1"])  # type: ignore[call-overload]  # there is no write
Step("no option", read=["1"], write=print, chunksize=3)  # type: ignore[call-overload]  # it is chunk_size
Step("chunk", read=["1"], write=print, chunk_size="3")  # type: ignore[call-overload]  # a text is no number
Skip(on="ValueError")  # type: ignore[arg-type]  # a class is wanted
Retry(attempts="3")  # type: ignore[arg-type]  # a number is wanted
Job("job", text_lines("a.txt"))  # type: ignore[arg-type]  # a reader is no step
run("job.py:job")  # type: ignore[arg-type]  # a job is wanted
run(Step("skip", read=["1"], write=print, skip=ValueError))  # type: ignore[call-overload]  # a Skip is wanted
Skip(limit=0.5)  # type: ignore[arg-type]  # a count, or a rate as a text
upsert("sqlite:///a.db", "t")  # type: ignore[call-arg]  # the key is missing
insert("sqlite:///a.db", "t", on_conflict="replace")  # type: ignore[arg-type]  # fail or ignore
Job.of(to_number, text="1")  # type: ignore[arg-type]  # the function returns no job
resumable("loop", 3)  # type: ignore[arg-type]  # a number cannot be read
resumable("loop", [1], retry=Retry())  # type: ignore[call-arg]  # a block cannot be run a second time
