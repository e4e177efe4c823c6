"""What a job will do, promise and risk, told before it runs.

The one rule: it looks at the declaration only. Nothing is opened, checked, created or called.
"""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from batchwright.engine.process_chunks import items_in_flight
from batchwright.job import Job, ordered_steps
from batchwright.model.guarantee import Guarantee
from batchwright.model.policy import Retry, parse_limit
from batchwright.model.processor import ProcessorKind, function_address
from batchwright.ports import Reader, Writer
from batchwright.step import Step

LARGEST_SENSIBLE_CHUNK = 100_000

LARGEST_SENSIBLE_TRANSACTION = 20_000
"""Items in one transaction: about a second of writing."""


@dataclass(frozen=True, slots=True)
class StepExplanation:
    """One step in words: what it reads and writes, what is promised, and what may happen twice after a crash."""

    name: str
    after: tuple[str, ...]
    reads: str
    seeks: bool
    writes: str
    guarantee: Guarantee
    may_happen_twice: str
    chunk_size: int
    retry: str
    skip: str
    published: str = ""
    workers: str = ""


@dataclass(frozen=True, slots=True)
class StepWarning:
    """Something in a step that will hurt one day, and how to mend it."""

    step: str
    what: str
    mend: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A job in words: its steps in the order they run, warnings, and what needs no warning."""

    job: str
    steps: tuple[StepExplanation, ...]
    warnings: tuple[StepWarning, ...]
    notes: tuple[str, ...]


def explain(job: Job) -> Explanation:
    """Describe a job and warn of the common ways in which batch jobs fail. Has no effect whatever."""
    before = job.predecessors()
    steps = ordered_steps(job)
    return Explanation(
        job.name,
        tuple(_explain_step(step, before[step.name]) for step in steps),
        tuple(warning for step in steps for warning in _warnings(step, anew=not job.identifiable)),
        (*NOTES, *_notes(steps)),
    )


NOTES = (
    "steps run one after the other; within one, only its workers work at the same time",
    "counts, rate, peak memory and failures of every run are kept: batchwright status, show and failures list them",
)


def _notes(steps: Sequence[Step[Any, Any]]) -> Iterator[str]:
    """What needs to be known of steps that call outside."""
    outside = [s for s in steps if getattr(s.write, "logs_effects", False) or _guarantee(s.write) is _AT_LEAST_ONCE]
    if outside:
        names = ", ".join(f"'{step.name}'" for step in outside)
        yield (
            f"what {names} called outside is known to the ledger alone: if it is lost, all is called again, effects "
            "under the same keys, so that a receiver can tell; where targets or the ledger's folder show it, a run is "
            "refused first"
        )


_AT_LEAST_ONCE = Guarantee.AT_LEAST_ONCE


def _explain_step(step: Step[Any, Any], after: tuple[str, ...]) -> StepExplanation:
    return StepExplanation(
        name=step.name,
        after=after,
        reads=step.source_address,
        seeks=_seeks(step.read),
        writes=step.target_address,
        guarantee=_guarantee(step.write),
        may_happen_twice=_may_happen_twice(step),
        chunk_size=step.chunk_size,
        retry=_describe_retry(step.retry) if step.retry else "",
        skip=_describe_skip(step),
        published=_describe_publication(step),
        workers=_describe_workers(step),
    )


def _describe_retry(retry: Retry) -> str:
    condition = f", where {function_address(retry.when).removeprefix('function:')} says so" if retry.when else ""
    return f"{retry.attempts} attempts on {_names(retry.on)}{condition}"


def _seeks(source: object) -> bool:
    return source.seeks if isinstance(source, Reader) else isinstance(source, Sequence)


def _guarantee(target: object) -> Guarantee:
    return target.guarantee if isinstance(target, Writer) else Guarantee.AT_LEAST_ONCE


def _may_happen_twice(step: Step[Any, Any]) -> str:
    """What a crash may repeat: never the outputs of a transactional or staged writer, always the processor's calls."""
    chunk = f"the up to {step.chunk_size:,} items of the chunk that a crash interrupts"
    ahead = _ahead(step)
    again = f"the up to {ahead:,} items that are read and not committed at a crash" if ahead else chunk
    calls = "" if step.process is None else f"; process is called again for {again}"
    promised = getattr(step.write, "may_happen_twice", None)
    if promised is not None:
        return f"{promised}{calls}"
    match _guarantee(step.write):
        case Guarantee.EXACTLY_ONCE:
            return f"no output{calls}"
        case Guarantee.EFFECTIVELY_ONCE:
            return f"outputs may be sent again, with no further effect{calls}"
        case Guarantee.AT_LEAST_ONCE:
            if not ahead:
                calls = calls and "; process is called again for them"
            return f"the outputs of {chunk} may be written again{calls}"


def _ahead(step: Step[Any, Any]) -> int:
    """How many items may be processed and not committed, where that is more than a chunk; 0 where it is not."""
    count = step.workers if step.runner is None else step.runner.workers
    if step.partitions is not None:
        return min(count, step.partitions) * step.chunk_size
    return items_in_flight(step, count) if step.runner is not None or count > 1 else 0


def _describe_workers(step: Step[Any, Any]) -> str:
    """Who processes, where, and what bounds it."""
    if step.partitions is not None:
        many = f"{step.workers} of them" if step.runner is None else f"{step.runner.workers:,} processes"
        return f"{many} on at most {step.partitions:,} partitions, which commit side by side, in no order"
    count = step.workers if step.runner is None else step.runner.workers
    if step.runner is None and count == 1:
        return "none: one item after the other"
    awaits = step.processor_kind in (ProcessorKind.ASYNC, ProcessorKind.ASYNC_GENERATOR)
    chosen = ("EventLoop" if awaits else "Threads") if step.runner is None else type(step.runner).__name__
    words = {"EventLoop": "items at once on an event loop", "Threads": "threads", "Processes": "processes"}
    where = words.get(chosen, f"workers of {chosen}")
    return f"{count:,} {where}; at most {items_in_flight(step, count):,} items read and not yet committed"


def _describe_publication(step: Step[Any, Any]) -> str:
    """How an atomic step becomes visible, and what that costs; empty for any other."""
    if not step.atomic:
        return ""
    asked = ", if publish_if says so" if step.publish_if is not None else ""
    if step.atomic == "transaction":
        return f"all or nothing (one transaction){asked}: cheapest for few rows; a crash costs all of them"
    if _guarantee(step.write) is Guarantee.EXACTLY_ONCE and hasattr(step.write, "replaces_target"):
        return "all or nothing: a file appears whole anyway"
    return f"all or nothing (staged){asked}: every row is written twice; a restart goes on where it was"


def _describe_skip(step: Step[Any, Any]) -> str:
    if step.skip is None:
        return ""
    limit = "no limit" if step.skip.limit is None else f"at most {step.skip.limit}"
    return f"{_names(step.skip.on)}, {limit}"


def _names(errors: Any) -> str:
    return " or ".join(error.__name__ for error in (errors if isinstance(errors, tuple) else (errors,)))


def _warnings(step: Step[Any, Any], *, anew: bool) -> Iterator[StepWarning]:
    yield from _warn_of_chunks(step)
    yield from _warn_of_restart(step)
    yield from _warn_of_bad_items(step)
    yield from _warn_of_large_transactions(step)
    yield from _warn_of_repetition(step, anew=anew)


def _warn_of_chunks(step: Step[Any, Any]) -> Iterator[StepWarning]:
    if step.chunk_size > LARGEST_SENSIBLE_CHUNK:
        yield StepWarning(
            step.name,
            f"a chunk of {step.chunk_size:,} items is held in memory whole, and a crash costs all of it",
            "set chunk_size to a few thousand",
        )


def _warn_of_large_transactions(step: Step[Any, Any]) -> Iterator[StepWarning]:
    source: object = step.read
    size = len(source) if isinstance(source, Sized) else None
    if step.atomic == "transaction" and (size is None or size > LARGEST_SENSIBLE_TRANSACTION):
        many = "an input of unknown size" if size is None else f"{size:,} items"
        yield StepWarning(
            step.name,
            f"one transaction over {many}: it holds its locks from first to last, and a crash undoes all of it",
            "write atomic=True, which stages chunk by chunk; or leave atomic out, if a part may be seen",
        )


def _warn_of_restart(step: Step[Any, Any]) -> Iterator[StepWarning]:
    if not isinstance(step.read, Reader) and isinstance(step.read, Iterator):
        yield StepWarning(
            step.name,
            "a one-shot iterator can be read once only: there is nothing to go on with after a crash",
            "pass a list, or the function that makes the iterator: read=make_items, not read=make_items()",
        )
    elif not _seeks(step.read):
        yield StepWarning(
            step.name,
            "the reader cannot seek: a restart reads the input again from its start and passes over what is done",
            "read from a file or by a query with key=, or let it be if the input is small",
        )


def _warn_of_bad_items(step: Step[Any, Any]) -> Iterator[StepWarning]:
    if step.skip is None and not _only_copies(step):
        yield StepWarning(
            step.name,
            "the first item that fails stops the step",
            'set such items aside: skip=Skip(on=ValueError, limit="0.1%")',
        )
    elif step.skip is not None and parse_limit(step.skip.limit) in ((None, None), (None, 1.0)):
        yield StepWarning(
            step.name,
            "there is no limit on failures: a step in which every item fails still completes",
            f'add one: skip=Skip(on={_names(step.skip.on)}, limit="1%")',
        )


def _only_copies(step: Step[Any, Any]) -> bool:
    """Whether a step copies the rows of a query into a file: nothing in it looks at single items, so none can fail."""
    kind, _, rest = step.source_address.partition("://")
    from_query = kind in ("sqlite", "postgresql") and " query " in rest
    return step.process is None and from_query and step.target_address.startswith(("csv:", "jsonl:", "text:"))


def _warn_of_repetition(step: Step[Any, Any], *, anew: bool) -> Iterator[StepWarning]:
    if getattr(step.write, "logs_effects", False):
        yield from _warn_of_effects(step, anew=anew)
    elif _guarantee(step.write) is Guarantee.AT_LEAST_ONCE:
        yield StepWarning(
            step.name,
            f"{step.target_address} may be given the last chunk a second time after a crash",
            "make it idempotent, or use a writer that is exactly once: insert, upsert, csv_file",
        )
    if _adds_rows(step.write) and not getattr(step.write, "logs_effects", False):
        yield StepWarning(
            step.name,
            "the job has no parameters: each run of it, once finished, adds everything once more"
            if anew
            else "running the finished job again with --again adds everything a second time",
            'use upsert(…, key="id") or insert(…, on_conflict="ignore") into a table with a primary key',
        )
    if step.retry is not None and step.retry.attempts > 1 and not _is_without_functions(step):
        yield StepWarning(
            step.name,
            f"your function is called up to {step.retry.attempts} times for an item that fails",
            "let it change nothing outside, or only what may be changed twice",
        )


def _warn_of_effects(step: Step[Any, Any], *, anew: bool) -> Iterator[StepWarning]:
    if _guarantee(step.write) is Guarantee.AT_LEAST_ONCE:
        yield StepWarning(
            step.name,
            f"{step.target_address} may make the one call that a crash interrupts a second time, under the same key",
            "say whether it was made, with ask=; or honours_key=True if the receiver does nothing for a key it knows",
        )
    if anew:
        yield StepWarning(
            step.name,
            "the job has no parameters: each run of it, once finished, makes every call once more, under another key",
            "give the job parameters that say which work it is, such as the month",
        )
    if step.compensate is None:
        yield StepWarning(
            step.name,
            "nothing can undo its effects when the run is rolled back",
            "give the step compensate=, or let it be if they cannot be undone",
        )


def _is_without_functions(step: Step[Any, Any]) -> bool:
    return step.process is None and _guarantee(step.write) is not Guarantee.AT_LEAST_ONCE


def _adds_rows(target: object) -> bool:
    """Whether a writer says of itself that writing the same outputs again adds them again."""
    return isinstance(target, Writer) and bool(getattr(target, "adds_again", False))
