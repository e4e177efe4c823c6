"""What a user declares: Step, one read-process-write pass. Frozen, built without side effects, checked when built.

The one rule: whatever is wrong with a declaration is said here, before anything runs.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from batchwright.model.distinct import Distinct
from batchwright.model.drop import Drop
from batchwright.model.effect import Effect
from batchwright.model.errors import DeclarationError
from batchwright.model.policy import Retry, Skip
from batchwright.model.processor import ProcessorKind, function_address, processor_kind
from batchwright.model.publication import Atomic, Publication, Unpublished, check_atomic
from batchwright.model.secrets import scrub
from batchwright.model.timeouts import check_count, check_timeouts
from batchwright.ports import Publishes, Reader, Source, Target, Writer
from batchwright.ports.runners import Runner
from batchwright.undivided import check_partitions

In = TypeVar("In")
Out = TypeVar("Out")

Recipe = Callable[[], tuple[Callable[[Any], Any], Retry | None, Skip | None]]
"""Makes a step's function and policies in another process."""

DEFAULT_CHUNK_SIZE = 1_000
MAX_NAME_CHARACTERS = 100


class StepOptions(TypedDict, total=False):
    """The policies of a step, all optional."""

    chunk_size: int
    retry: Retry | None
    skip: Skip | None
    write_retry: Retry | None
    compensate: Callable[[Effect], object] | None
    after: Sequence[str] | str | None
    checkpoint_seconds: float
    timeout_seconds: float | None
    chunk_timeout_seconds: float | None
    item_timeout_seconds: float | None
    workers: int
    runner: Runner | None
    max_in_flight: int | None
    partitions: int | None
    atomic: Atomic
    publish_if: Callable[[Unpublished], object] | None


@dataclass(frozen=True, eq=False, init=False, slots=True)
class Step(Generic[In, Out]):
    """One named read-process-write pass with its policies.

    `read` is a reader, a collection, or a function that returns a fresh iterator each time. `process` turns an item
    into an output, `DROP`, or, as a generator, several outputs; an async function does the same. `write` is a writer,
    or a function that takes a list of outputs. A step follows the one listed before it, unless `after` names others;
    `after=()` means at once. `write_retry` governs chunks that hit a passing database error; by default those that the
    writer knows as such are tried five times.

    `compensate` undoes one effect of a step that writes with `effects`: it is given the effect, with key, output and
    receipt, when the run is rolled back.

    `timeout_seconds` stops the step, to be gone on with, at the end of the chunk in which they are over. A chunk not
    written and committed within `chunk_timeout_seconds` is undone and fails the step; the writer must be able to. An
    async function that takes longer than `item_timeout_seconds` fails that item with a TimeoutError; so does any
    function in a runner's processes.

    `workers` process so many items at once; the output is the same, in the same order. They are on an event loop if
    `process` is async, else on threads; `runner` says where instead. `max_in_flight` bounds the items that are read
    and not committed yet; by default three chunks, or four per worker where that is more.

    With `partitions` the input is split, once, into at most so many parts. Each is read, processed, written and
    committed by itself, with a checkpoint of its own, by `workers` threads, by the processes of
    `runner=Processes(…)`, or by others that join with `batchwright worker`. Items are written in no order; only
    writers to which that does not matter are taken.

    With `atomic=True` outputs are staged chunk by chunk and become visible all at once when the step is complete, if
    `publish_if` says so; with `atomic="transaction"` the step is one transaction, and begins anew after a crash. An
    atomic step whose `skip` has no limit allows no failure.

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
    compensate: Callable[[Effect], object] | None
    after: tuple[str, ...] | None
    checkpoint_seconds: float
    timeout_seconds: float | None
    chunk_timeout_seconds: float | None
    item_timeout_seconds: float | None
    workers: int
    runner: Runner | None
    max_in_flight: int | None
    partitions: int | None
    atomic: Atomic
    publish_if: Callable[[Unpublished], object] | None
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
        compensate: Callable[[Effect], object] | None = None,
        after: Sequence[str] | str | None = None,
        checkpoint_seconds: float = 1.0,
        timeout_seconds: float | None = None,
        chunk_timeout_seconds: float | None = None,
        item_timeout_seconds: float | None = None,
        workers: int = 1,
        runner: Runner | None = None,
        max_in_flight: int | None = None,
        partitions: int | None = None,
        atomic: Atomic = False,
        publish_if: Callable[[Unpublished], object] | None = None,
    ) -> None:
        """Check and keep the declaration; nothing is opened."""
        before = (after,) if isinstance(after, str) else None if after is None else tuple(after)
        set_fields(self, name=name, read=read, write=write, process=process, after=before, secrets=())
        set_fields(self, chunk_size=chunk_size, retry=retry, skip=skip, write_retry=write_retry)
        set_fields(self, compensate=compensate)
        set_fields(self, checkpoint_seconds=checkpoint_seconds, timeout_seconds=timeout_seconds)
        set_fields(self, chunk_timeout_seconds=chunk_timeout_seconds, item_timeout_seconds=item_timeout_seconds)
        set_fields(self, workers=workers, runner=runner, max_in_flight=max_in_flight, partitions=partitions)
        set_fields(self, atomic=atomic, publish_if=publish_if)
        _check_step(self)
        if atomic and skip is not None and skip.limit is None:
            set_fields(self, skip=replace(skip, limit=0))

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
    """A step with its source and target behind the ports, as the engine runs it.

    Where the runner is apart, `recipe` says how its processes get at the step's function; and `again` makes a step in
    partitions anew, for processes that work on them.
    """

    step: Step[Any, Any]
    reader: Reader[Any]
    writer: Writer[Any]
    runner: Runner | None = None
    recipe: Recipe | None = None
    again: "Callable[[], BoundStep] | None" = None

    @property
    def hides_until_finished(self) -> bool:
        """Whether nobody sees an output before the step is finished."""
        return bool(self.step.atomic) or hasattr(self.writer, "replaces_target")

    @property
    def promise(self) -> str:
        """Its guarantee in words, and whether it publishes everything at once."""
        return f"{self.writer.guarantee}{', all or nothing' if self.step.atomic else ''}"


def set_fields(declared: object, **values: Any) -> None:
    """Fill the fields of a frozen declaration while it is built."""
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
    _check_workers(step)
    _check_compensate(step)
    for field, kind in (("retry", Retry), ("skip", Skip), ("write_retry", Retry)):
        value = getattr(step, field)
        if value is not None and not isinstance(value, kind):
            raise DeclarationError(f"step '{step.name}': {field} must be a {kind.__name__}", f"got {value!r}")
    _check_publication(step)
    if step.partitions is not None:
        check_partitions(step)


def _check_workers(step: Step[Any, Any]) -> None:
    check_count(f"step '{step.name}': workers", step.workers)
    if step.max_in_flight is not None:
        check_count(f"step '{step.name}': max_in_flight", step.max_in_flight)
    if step.runner is not None and (isinstance(step.runner, type) or not isinstance(step.runner, Runner)):
        raise DeclarationError(
            f"step '{step.name}': runner must be a runner", f"got {step.runner!r}", "write runner=Threads(8)"
        )
    if step.runner is not None and step.workers > 1:
        raise DeclarationError(
            f"step '{step.name}': workers and runner say the same twice",
            f"got workers={step.workers} and {step.runner!r}",
            "leave workers out",
        )
    if isinstance(step.process, Distinct) and (step.runner is not None or step.workers > 1):
        raise DeclarationError(
            f"step '{step.name}': distinct takes one item after another: workers cannot help it",
            f"got {step.runner or f'workers={step.workers}'}",
            "let one step pass distinct items on, and the next one process them with workers",
        )
    if step.process is None and step.partitions is None and (step.runner is not None or step.workers > 1):
        raise DeclarationError(
            f"step '{step.name}': workers need something to do", "there is no process=", "leave workers out"
        )
    if step.runner is not None:
        waits = step.processor_kind in (ProcessorKind.ASYNC, ProcessorKind.ASYNC_GENERATOR)
        if waits != step.runner.together:
            raise DeclarationError(
                f"step '{step.name}': {step.runner!r} cannot call process",
                f"it is {'an async' if waits else 'a plain'} function",
                f"write runner={'EventLoop' if waits else 'Threads'}({step.runner.workers})"
                if step.partitions is None
                else f"write workers={step.runner.workers}",
            )


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


def publishing_writer(step: Step[Any, Any]) -> Writer[Any]:
    """The writer of an atomic step, which publishes everything at once. Raises DeclarationError if there is none."""
    shows = step.skip is None or (step.skip.payload and not step.skip.redact)
    publication = Publication(step.name, step.atomic == "transaction", step.publish_if, shows)
    target: object = step.write
    if isinstance(target, Publishes):
        return target.publishing(publication)
    found = f"{step.target_address} hands on its outputs as they come, and takes none back"
    if isinstance(target, Writer):
        found = f"{step.target_address} does not stage its outputs"
    raise DeclarationError(
        f"step '{step.name}': atomic needs a writer that can publish everything at once",
        found,
        "write with insert, upsert, csv_file, json_lines_file or text_file, or leave atomic out",
    )


def _check_publication(step: Step[Any, Any]) -> None:
    check_atomic(step.name, step.atomic)
    if step.publish_if is not None and not step.atomic:
        raise DeclarationError(
            f"step '{step.name}': publish_if needs atomic",
            "without it every chunk is published when it is written",
            "add atomic=True, or leave publish_if out",
        )
    if step.publish_if is not None and (
        not callable(step.publish_if) or processor_kind(step.publish_if) is not ProcessorKind.FUNCTION
    ):
        raise DeclarationError(f"step '{step.name}': publish_if must be a plain function", f"got {step.publish_if!r}")
    if step.atomic is True and isinstance(step.process, Distinct) and step.process.across_laps:
        raise DeclarationError(
            f"step '{step.name}': atomic=True does not go with distinct(across_laps=True)",
            "keys of a lap that is given up before it is published would count as seen for ever",
            "write atomic='transaction', or leave across_laps out",
        )
    if step.atomic:
        publishing_writer(step)


def _check_compensate(step: Step[Any, Any]) -> None:
    if step.compensate is None:
        return
    if not callable(step.compensate) or processor_kind(step.compensate) is not ProcessorKind.FUNCTION:
        raise DeclarationError(
            f"step '{step.name}': compensate must be a plain function of an effect", f"got {step.compensate!r}"
        )
    if not getattr(step.write, "logs_effects", False):
        raise DeclarationError(
            f"step '{step.name}': compensate needs a writer that keeps a log of its effects",
            f"{step.target_address} keeps none: nobody would know what to undo",
            "write with effects(function); what a database step wrote is undone by a step of effects that deletes it",
        )
