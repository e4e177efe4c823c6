"""What a user declares: Job and Step. Frozen, built without side effects, checked when built.

The one rule: whatever is wrong with a declaration is said here, before anything runs.
"""

import hashlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from batchwright.model.checkpoint import InstanceKey
from batchwright.model.codec import encode
from batchwright.model.drop import Drop
from batchwright.model.errors import DeclarationError
from batchwright.model.execution import Origin
from batchwright.model.parameters import check_storable, sort_parameters
from batchwright.model.policy import Retry, Skip
from batchwright.model.processor import ProcessorKind, function_address, processor_kind
from batchwright.model.secrets import scrub
from batchwright.model.timeouts import check_seconds, check_timeouts
from batchwright.ports import Reader, Source, Target, Writer

In = TypeVar("In")
Out = TypeVar("Out")

DEFAULT_CHUNK_SIZE = 1_000
MAX_NAME_CHARACTERS = 100


class StepOptions(TypedDict, total=False):
    """The policies of a step, all optional."""

    chunk_size: int
    retry: Retry | None
    skip: Skip | None
    write_retry: Retry | None
    after: Sequence[str] | str | None
    checkpoint_seconds: float
    timeout_seconds: float | None
    chunk_timeout_seconds: float | None
    item_timeout_seconds: float | None


@dataclass(frozen=True, eq=False, init=False, slots=True)
class Step(Generic[In, Out]):
    """One named read-process-write pass with its policies.

    `read` is a reader, a collection, or a function that returns a fresh iterator each time. `process` turns an item
    into an output, `DROP`, or, as a generator, several outputs; an async function does the same. `write` is a writer,
    or a function that takes a list of outputs. A step follows the one listed before it, unless `after` names others;
    `after=()` means at once. `write_retry` governs chunks that hit a passing database error; by default those that the
    writer knows as such are tried five times.

    `timeout_seconds` stops the step, to be gone on with, at the end of the chunk in which they are over. A chunk not
    written and committed within `chunk_timeout_seconds` is undone and fails the step; the writer must be able to. An
    async function that takes longer than `item_timeout_seconds` fails that item with a TimeoutError.

    Raises DeclarationError for what cannot be meant.
    """

    name: str
    read: Source[In]
    write: Target[Out]
    process: Callable[[In], Any] | None
    chunk_size: int
    retry: Retry | None
    skip: Skip | None
    write_retry: Retry | None
    after: tuple[str, ...] | None
    checkpoint_seconds: float
    timeout_seconds: float | None
    chunk_timeout_seconds: float | None
    item_timeout_seconds: float | None
    secrets: tuple[str, ...]

    @overload
    def __init__(
        self: "Step[In, Out]",
        name: str,
        *,
        read: Source[In],
        process: Callable[[In], Iterator[Out]],
        write: Target[Out],
        **options: Unpack[StepOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "Step[In, Out]",
        name: str,
        *,
        read: Source[In],
        process: Callable[[In], AsyncIterator[Out]],
        write: Target[Out],
        **options: Unpack[StepOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "Step[In, Out]",
        name: str,
        *,
        read: Source[In],
        process: Callable[[In], Awaitable[Out | Drop]],
        write: Target[Out],
        **options: Unpack[StepOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "Step[In, Out]",
        name: str,
        *,
        read: Source[In],
        process: Callable[[In], Out | Drop],
        write: Target[Out],
        **options: Unpack[StepOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "Step[In, In]",
        name: str,
        *,
        read: Source[In],
        write: Target[In],
        **options: Unpack[StepOptions],
    ) -> None: ...

    def __init__(  # noqa: PLR0913 - the fields of a declaration
        self,
        name: str,
        *,
        read: Any,
        write: Any,
        process: Any = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        retry: Retry | None = None,
        skip: Skip | None = None,
        write_retry: Retry | None = None,
        after: Sequence[str] | str | None = None,
        checkpoint_seconds: float = 1.0,
        timeout_seconds: float | None = None,
        chunk_timeout_seconds: float | None = None,
        item_timeout_seconds: float | None = None,
    ) -> None:
        """Check and keep the declaration; nothing is opened."""
        before = (after,) if isinstance(after, str) else None if after is None else tuple(after)
        _set(self, name=name, read=read, write=write, process=process, after=before, secrets=())
        _set(self, chunk_size=chunk_size, retry=retry, skip=skip, write_retry=write_retry)
        _set(self, checkpoint_seconds=checkpoint_seconds, timeout_seconds=timeout_seconds)
        _set(self, chunk_timeout_seconds=chunk_timeout_seconds, item_timeout_seconds=item_timeout_seconds)
        _check_step(self)

    @property
    def processor_kind(self) -> ProcessorKind:
        """How `process` is called, recognised through `partial` and `__call__`."""
        return processor_kind(self.process)

    @property
    def source_address(self) -> str:
        """The reader's address, or the name of the collection's type or of the function; without the job's secrets."""
        if isinstance(self.read, Reader):
            return scrub(self.read.address, self.secrets)
        return function_address(self.read) if callable(self.read) else type(self.read).__name__

    @property
    def target_address(self) -> str:
        """The writer's address, or the function's name; without the job's secrets."""
        if isinstance(self.write, Writer):
            return scrub(self.write.address, self.secrets)
        return function_address(self.write)

    def __repr__(self) -> str:
        """Name and addresses."""
        return f"Step({self.name!r}, read={self.source_address!r}, write={self.target_address!r})"


@dataclass(frozen=True, eq=False, slots=True)
class BoundStep:
    """A step with its source and target behind the ports, as the engine runs it."""

    step: Step[Any, Any]
    reader: Reader[Any]
    writer: Writer[Any]


@dataclass(frozen=True, eq=False, init=False, slots=True)
class Job:
    """A named graph of steps with its parameters.

    `parameters` say which work it is: the same job with the same parameters is the same instance. Raises
    DeclarationError for duplicate step names, unknown names in `after`, and circles. A job without parameters that
    could say which work it is (`identifiable` is False) begins anew each time it is run after it was finished. A run
    that lasts longer than `timeout_seconds` is stopped, to be gone on with, at the end of the chunk in work.
    """

    name: str
    steps: tuple[Step[Any, Any], ...]
    parameters: Mapping[str, Any]
    identifying: Mapping[str, Any]
    origin: Origin | None
    secrets: tuple[str, ...]
    identifiable: bool
    timeout_seconds: float | None

    def __init__(
        self,
        name: str,
        *steps: Step[Any, Any],
        parameters: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        """Check and keep the declaration; nothing is opened."""
        given = dict(parameters or {})
        _set(self, name=name, steps=steps, parameters=given, identifying=given, origin=None, secrets=())
        _set(self, identifiable=bool(given), timeout_seconds=timeout_seconds)
        _check_job(self)

    @classmethod
    def of(cls, function: Callable[..., "Job"], /, **parameters: Any) -> "Job":
        """The job that `function` makes of these parameters, with its origin: it can be built again elsewhere.

        The function must be pure. Parameters equal to their default and those marked NonIdentifying or Secret do not
        identify the work; a Secret is never stored. Raises ParameterError if they do not fit the function.
        """
        known = sort_parameters(function, parameters)
        job = function(**parameters)
        if not isinstance(job, Job):
            raise DeclarationError(
                f"{function.__qualname__} must return a Job",
                f"it returned {type(job).__name__}",
                "end it with return Job(…)",
            )
        if job.parameters:
            wrong = f"{function.__qualname__}: a job function's own parameters are the job's"
            raise DeclarationError(wrong, "it returned a Job with parameters=", "make them parameters of the function")
        check_storable(job.name, known.kept)
        if any(secret in name for secret in known.secrets for name in (job.name, *(step.name for step in job.steps))):
            raise DeclarationError(f"{function.__qualname__}: a secret is part of a name", "", "name it otherwise")
        made = object.__new__(cls)
        steps = tuple(_keeping_secrets(step, known.secrets) for step in job.steps)
        _set(made, name=job.name, steps=steps, identifiable=known.identifiable, timeout_seconds=job.timeout_seconds)
        _set(made, parameters=known.kept, identifying=known.identifying, secrets=known.secrets)
        _set(made, origin=Origin(_source_path(function), function.__qualname__, made.definition_digest))
        return made

    @property
    def key(self) -> InstanceKey:
        """Which work this is."""
        return InstanceKey(
            self.name, hashlib.sha256(encode(dict(self.identifying), canonical=True).encode()).hexdigest()[:32]
        )

    @property
    def definition_digest(self) -> str:
        """A digest of step names, order and addresses."""
        described = [
            [step.name, step.source_address, step.target_address, list(before)]
            for step, before in zip(self.steps, self.predecessors().values(), strict=True)
        ]
        return hashlib.sha256(encode(described).encode()).hexdigest()[:16]

    def predecessors(self) -> dict[str, tuple[str, ...]]:
        """For each step, in listed order, the names of the steps that it follows."""
        before: dict[str, tuple[str, ...]] = {}
        previous: tuple[str, ...] = ()
        for step in self.steps:
            before[step.name] = previous if step.after is None else step.after
            previous = (step.name,)
        return before

    def __repr__(self) -> str:
        """Name, step names and parameters; never a secret."""
        names = ", ".join(step.name for step in self.steps)
        return f"Job({self.name!r}, {names}, parameters={dict(self.parameters)!r})"


def ordered_steps(job: Job) -> list[Step[Any, Any]]:
    """The steps, each after those it follows, otherwise as listed. Raises DeclarationError for a circle."""
    before = job.predecessors()
    waiting, ordered, done = list(job.steps), [], set[str]()
    while waiting:
        step = next((step for step in waiting if done.issuperset(before[step.name])), None)
        if step is None:
            raise DeclarationError(
                f"job '{job.name}': steps wait for each other in a circle",
                ", ".join(f"'{step.name}'" for step in waiting),
                "mend their after=",
            )
        waiting.remove(step)
        ordered.append(step)
        done.add(step.name)
    return ordered


def _keeping_secrets(step: Step[Any, Any], secrets: tuple[str, ...]) -> Step[Any, Any]:
    """The same step, with texts that its addresses must not show."""
    kept = copy(step)
    object.__setattr__(kept, "secrets", secrets)
    return kept


def _set(declared: Job | Step[Any, Any], **values: Any) -> None:
    for field, value in values.items():
        object.__setattr__(declared, field, value)


def _check_step(step: Step[Any, Any]) -> None:
    wrong = f"step {step.name!r}"
    if not isinstance(step.name, str) or not step.name.strip() or len(step.name) > MAX_NAME_CHARACTERS:
        raise DeclarationError(f"{wrong}: name must be a text of 1 to 100 characters", f"got {step.name!r}")
    if isinstance(step.chunk_size, bool) or not isinstance(step.chunk_size, int) or step.chunk_size < 1:
        raise DeclarationError(f"step '{step.name}': chunk_size must be at least 1", f"got {step.chunk_size!r}")
    _check_ports(step)
    if step.process is not None and not callable(step.process):
        raise DeclarationError(f"step '{step.name}': process must be a function", f"got {step.process!r}")
    if not isinstance(step.checkpoint_seconds, int | float) or not step.checkpoint_seconds >= 0:
        raise DeclarationError(
            f"step '{step.name}': checkpoint_seconds must not be negative", f"got {step.checkpoint_seconds!r}"
        )
    check_timeouts(step)
    for field, kind in (("retry", Retry), ("skip", Skip), ("write_retry", Retry)):
        value = getattr(step, field)
        if value is not None and not isinstance(value, kind):
            raise DeclarationError(f"step '{step.name}': {field} must be a {kind.__name__}", f"got {value!r}")


def _check_ports(step: Step[Any, Any]) -> None:
    if isinstance(step.read, (str, bytes)):
        raise DeclarationError(
            f"step '{step.name}': read must be a reader, a collection or a function",
            f"got the text {step.read[:60]!r}, whose items would be single characters",
            "to read a file, write read=text_lines(path) or read=csv_rows(path)",
        )
    if not (isinstance(step.read, Reader) or callable(step.read) or hasattr(step.read, "__iter__")):
        raise DeclarationError(
            f"step '{step.name}': read must be a reader, a collection or a function", f"got {step.read!r}"
        )
    if not (isinstance(step.write, Writer) or callable(step.write)):
        raise DeclarationError(f"step '{step.name}': write must be a writer or a function", f"got {step.write!r}")
    if not isinstance(step.write, Writer) and processor_kind(step.write) is not ProcessorKind.FUNCTION:
        raise DeclarationError(
            f"step '{step.name}': write must be a plain function: calling this one does nothing by itself",
            f"{step.target_address} is a kind of {processor_kind(step.write)}",
            "move the waiting into an async processor, and write with a plain function",
        )


def _check_job(job: Job) -> None:
    if not isinstance(job.name, str) or not job.name.strip() or len(job.name) > MAX_NAME_CHARACTERS:
        raise DeclarationError("a job's name must be a text of 1 to 100 characters", f"got {job.name!r}")
    for step in job.steps:
        if not isinstance(step, Step):
            raise DeclarationError(f"job '{job.name}': only steps can be listed", f"got {step!r}")
    names = [step.name for step in job.steps]
    if not names:
        raise DeclarationError(f"job '{job.name}' has no steps", "", "list at least one Step")
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(
                f"job '{job.name}': step names must differ", f"'{name}' stands {names.count(name)} times", "rename one"
            )
    for step in job.steps:
        unknown = [name for name in step.after or () if name not in names]
        if unknown:
            raise DeclarationError(
                f"step '{step.name}': after names a step that is not there",
                f"got '{unknown[0]}'; the steps are {', '.join(names)}",
            )
    check_seconds(f"job '{job.name}': timeout_seconds", job.timeout_seconds)
    _check_targets(job)
    ordered_steps(job)
    check_storable(job.name, job.parameters)


def _check_targets(job: Job) -> None:
    written: dict[str, str] = {}
    for step in job.steps:
        target = getattr(step.write, "replaces_target", None)
        other = step.name if target is None else written.setdefault(target, step.name)
        if other != step.name:
            wrong = f"job '{job.name}': steps '{other}' and '{step.name}' write the same file"
            raise DeclarationError(wrong, f"each would replace the other's {step.target_address}", "name another file")


def _source_path(function: Callable[..., Job]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return str(Path(code.co_filename).resolve()) if code is not None else ""


def one_step_job(step: Step[Any, Any]) -> Job:
    """The job that stands around a single step; it has the step's name."""
    return Job(step.name, step)
