"""What the type checker must reject: an ignore that is not needed is an error. Nothing here is run."""

from collections.abc import Sequence

from batchwright import Job, Retry, Skip, Step, each, run
from batchwright.readers import text_lines
from batchwright.writers import text_file


def to_number(text: str) -> int:
    return int(text)


def take_texts(texts: Sequence[str]) -> None:
    """A writer of texts."""


def take_text(text: str) -> None:
    """A function of one text."""


Step("writer", read=["1"], process=to_number, write=take_texts)  # type: ignore[arg-type]  # texts, not numbers
Step("each", read=["1"], process=to_number, write=each(take_text))  # type: ignore[arg-type]  # texts, not numbers
Step("file", read=["1"], process=to_number, write=text_file("a.txt"))  # type: ignore[arg-type]  # texts, not numbers
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
