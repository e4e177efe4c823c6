"""Try a job without writing anything: read, process, count, and say what a run would do.

The one rule: no ledger, no lock, no sink is opened. What only a target can find out (a row that it refuses, a key that
is there twice) is not found out here; and the user's functions do run, with whatever they do outside.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

from batchwright.engine.attempt import Attempts
from batchwright.engine.deduplicate import trial_processor
from batchwright.engine.process_chunk import Processed
from batchwright.engine.process_chunks import processing_singly
from batchwright.engine.read_chunks import Chunk, read_chunks
from batchwright.engine.record_failure import FailureRecorder, describe_error, note_place
from batchwright.engine.run_step import check_adapters
from batchwright.engine.stop import Stop, pause
from batchwright.job import Job, ordered_steps
from batchwright.model.checkpoint import Counts
from batchwright.model.errors import FailureLimitError, SourceError
from batchwright.model.failure import Failure, Phase
from batchwright.model.policy import Skip
from batchwright.model.secrets import HIDDEN, scrub
from batchwright.ports import Clock
from batchwright.step import BoundStep

FAILURES_KEPT = 5
SAMPLES_KEPT = 3
SAMPLE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class StepTrial:
    """What a step would do. `whole` says that its input was read to the end; `error` is what would end it.

    `untried` says why it could not be tried although a run may well get through: its input is made by the steps before.
    """

    step: str
    reads: str
    writes: str
    counts: Counts = field(default_factory=Counts)
    whole: bool = False
    failures: tuple[Failure, ...] = ()
    samples: tuple[str, ...] = ()
    error: str = ""
    untried: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a job would do, step by step."""

    job: str
    steps: tuple[StepTrial, ...]

    @property
    def would_fail(self) -> bool:
        """Whether an error would end a step."""
        return any(step.error for step in self.steps)


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """How many items of each step are tried, and what goes before its limit on failures."""

    limit: int | None = None
    max_failures: int | str | None = None


def try_job(job: Job, bound: Mapping[str, BoundStep], options: TrialOptions, clock: Clock) -> Trial:
    """Try the steps in order, each from the start of its input. A step that would fail holds back those behind it."""
    before, trials = job.predecessors(), dict[str, StepTrial]()
    for step in ordered_steps(job):
        held = [name for name in before[step.name] if trials[name].error or trials[name].untried]
        trial = StepTrial(step.name, step.source_address, step.target_address)
        if held:
            trials[step.name] = replace(trial, untried=f"it follows '{held[0]}'")
            continue
        trials[step.name] = _try_step(
            _Trying(bound[step.name], job, options, clock), trial, follows=bool(before[step.name])
        )
    return Trial(job.name, tuple(trials[step.name] for step in job.steps))


@dataclass(frozen=True, slots=True)
class _Trying:
    bound: BoundStep
    job: Job
    options: TrialOptions
    clock: Clock
    stop: Stop = field(default_factory=Stop)

    @property
    def limit(self) -> Skip | None:
        skip, given = self.bound.step.skip, self.options.max_failures
        return skip if skip is None or given is None else replace(skip, limit=given)

    @property
    def attempts(self) -> Attempts:
        return Attempts(self.bound.step.retry, self.limit, partial(pause, self.clock, self.stop))

    @property
    def recorder(self) -> FailureRecorder:
        return FailureRecorder(self.bound.step.name, self.bound.reader, self.clock, self.limit, self.job.secrets)


@dataclass(slots=True)
class _TriedKeys:
    """The keys that passed in this trial, which starts fresh: what earlier runs have seen is not asked for."""

    seen: set[bytes] = field(default_factory=set)

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        return self.seen.intersection(digests)

    def remember(self, digests: Sequence[bytes]) -> None:
        self.seen.update(digests)


def _try_step(trying: _Trying, trial: StepTrial, *, follows: bool) -> StepTrial:
    step = trying.bound.step
    try:
        check_adapters(trying.bound)
        key = trying.job.key.step(0, step.name)
        called = trial_processor(step, key, _TriedKeys())
        with processing_singly(trying.bound, called, trying.attempts, (trying.clock, trying.stop)) as parts_of:
            return _try_chunks(trying, trial, parts_of)
    except Exception as error:  # noqa: BLE001 - whatever would end the step is what was asked for
        text = describe_error(error, trying.job.secrets)
        if follows and _is_about_input(error):
            return replace(trial, untried=f"its input is made by the steps before it: {text}")
        return replace(trial, error=text)


def _is_about_input(error: BaseException) -> bool:
    return isinstance(error, SourceError | FileNotFoundError)


def _try_chunks(trying: _Trying, trial: StepTrial, parts_of: Callable[[Chunk], Iterator[Processed]]) -> StepTrial:
    left = trying.options.limit
    with closing(_chunks(trying)) as chunks:
        for read in chunks:
            chunk = read if left is None or len(read) <= left else read.part(0, left)
            trial = _try_chunk(trying, trial, chunk, parts_of(chunk))
            left = None if left is None else left - len(chunk)
            if trial.error or chunk is not read or left == 0:
                return trial
    counts = trial.counts
    error = _too_many(trying, counts, at_end=True)
    return replace(trial, whole=True, error=error)


def _chunks(trying: _Trying) -> Generator[Chunk, None, None]:
    yield from read_chunks(trying.bound.reader, None, trying.bound.step.chunk_size, trying.clock, trying.stop)


def _try_chunk(trying: _Trying, trial: StepTrial, chunk: Chunk, parts: Iterator[Processed]) -> StepTrial:
    name = trying.bound.step.name
    for processed in parts:
        start, end = processed.chunk.start, processed.chunk.start + len(processed.chunk)
        trial = _with_part(trying, trial, processed)
        if processed.keys is not None:
            processed.keys.memory.remember(processed.keys.owned(start, end))
        if processed.ended_by is not None:
            place = chunk.locate(end - chunk.start)
            note_place(processed.ended_by, "processing", trying.bound.reader, place, (name, trying.job.name))
            return replace(trial, error=describe_error(processed.ended_by, trying.job.secrets))
        error = _too_many(trying, trial.counts)
        if error:
            return replace(trial, error=error)
    return trial


def _with_part(trying: _Trying, trial: StepTrial, processed: Processed) -> StepTrial:
    outputs = processed.outputs()
    filtered = processed.filtered(len(outputs))
    phases = [why.phase for why in processed.failed.values()]
    counts = Counts(
        read=len(processed.chunk),
        written=len(processed.results) - filtered,
        filtered=filtered,
        failed_read=phases.count(Phase.READ),
        failed_process=phases.count(Phase.PROCESS),
        outputs=len(outputs),
        retried=processed.retried,
    )
    wanted = sorted(processed.failed)[: FAILURES_KEPT - len(trial.failures)]
    failures = [trying.recorder.record(processed.chunk, index, processed.failed[index]) for index in wanted]
    samples = [_sample(trying, output) for output in islice(outputs, SAMPLES_KEPT - len(trial.samples))]
    return replace(
        trial,
        counts=trial.counts + counts,
        failures=(*trial.failures, *failures),
        samples=(*trial.samples, *samples),
    )


def _sample(trying: _Trying, output: Any) -> str:
    """An output as Python writes it, without secrets and without fields that failures are not to show either."""
    skip = trying.bound.step.skip
    if skip is not None and not skip.payload:
        return f"<{type(output).__qualname__}>"
    if skip is not None and skip.redact:
        if not isinstance(output, Mapping):
            return f"<{type(output).__qualname__}>"
        output = {name: HIDDEN if name in skip.redact else value for name, value in output.items()}
    try:
        text = repr(output)
    except Exception:  # noqa: BLE001 - a user's __repr__ may do anything
        return f"<{type(output).__qualname__}>"
    text = scrub(text, trying.job.secrets)
    return text if len(text) <= SAMPLE_CHARACTERS else f"{text[: SAMPLE_CHARACTERS - 1]}…"


def _too_many(trying: _Trying, counts: Counts, *, at_end: bool = False) -> str:
    limit = trying.limit
    if limit is None or not limit.exceeded(counts.failed, counts.read, at_end=at_end):
        return ""
    return str(FailureLimitError(trying.bound.step.name, counts.failed, counts.read, limit.limit))
