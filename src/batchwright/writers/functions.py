"""Plain functions as writers: one call a chunk, or, with `each`, one call an output.

The one rule: what a function did cannot be undone, so nothing is called twice that need not be; a chunk that was under
way when the process died is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import DeclarationError, ItemsFailed
from batchwright.model.failure import Failure, FailureState
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.model.pace import CHUNK_SECONDS, next_pass
from batchwright.model.processor import ProcessorKind, function_address, processor_kind
from batchwright.ports import Scope, Sink, Writer

Out = TypeVar("Out")
Out_contra = TypeVar("Out_contra", contravariant=True)


def function_writer(function: Callable[[list[Out]], object]) -> Writer[Out]:
    """A writer that gives each chunk of outputs to a function. At least once.

    The function may raise ItemsFailed to name the outputs that it did not write; any other error stops the step. Raises
    DeclarationError for async functions and generators, whose call does nothing by itself.
    """
    check_function("write", function)
    return FunctionWriter(function)


def each(function: Callable[[Out], object]) -> Writer[Out]:
    """A writer that calls a function once for every output. At least once; within a chunk nothing is called twice.

    An output whose call raises is tried again as the step's `retry` allows; then it is that item's failure. Raises
    DeclarationError for async functions and generators, whose call does nothing by itself.
    """
    check_function("each", function)
    return Each(function)


@dataclass(frozen=True)
class FunctionWriter(Generic[Out_contra]):
    """A function of a chunk of outputs as the target of a step."""

    function: Callable[[list[Any]], object]
    guarantee: Guarantee = field(default=Guarantee.AT_LEAST_ONCE, init=False)

    @property
    def address(self) -> str:
        """The function's name, with its module."""
        return function_address(self.function)

    def open(self, scope: Scope) -> Sink[Out_contra]:
        """A sink that calls the function."""
        return FunctionSink(scope, self.function)


@dataclass(frozen=True)
class Each(Generic[Out_contra]):
    """A function of one output as the target of a step."""

    function: Callable[[Any], object]
    guarantee: Guarantee = field(default=Guarantee.AT_LEAST_ONCE, init=False)

    @property
    def address(self) -> str:
        """`each` and the function's name, with its module."""
        return f"each {function_address(self.function)}"

    def open(self, scope: Scope) -> "EachSink[Out_contra]":
        """A sink that calls the function output by output."""
        return EachSink(scope, self.function)


class FunctionSink(Generic[Out_contra]):
    """Calls a function; keeps checkpoint and failures in the scope's store, durably with every chunk."""

    def __init__(self, scope: Scope, function: Callable[[list[Any]], object]) -> None:
        """Call nothing yet."""
        self._scope = scope
        self._function = function
        self._seen: Sequence[bytes] = ()

    def recall(self) -> Checkpoint | None:
        """The last checkpoint stored. The chunk after it may have been written, wholly or partly."""
        return self._scope.store.load_checkpoint(self._scope.key)

    def write(self, outputs: Sequence[Out_contra]) -> None:
        """Give the function a list of its own. Its errors pass through."""
        self._function(list(outputs))

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Store checkpoint, failures and keys in one transaction."""
        self._scope.save(checkpoint, failures, self._seen)
        self._seen = ()

    def known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys are stored."""
        return self._scope.known(digests)

    def remember(self, digests: Sequence[bytes]) -> None:
        """Keep keys for the next commit."""
        self._seen = digests

    def rollback(self) -> None:
        """Nothing but the keys: a call cannot be undone."""
        self._seen = ()

    def finish(self, checkpoint: Checkpoint) -> None:
        """Store the finished mark."""
        self._scope.save(replace(checkpoint, finished=True), ())

    def failures(self) -> Iterator[Failure]:
        """Every failure stored."""
        return self._scope.store.load_failures(self._scope.key)

    def settle(self, ordinals: Sequence[int], state: FailureState = FailureState.REPLAYED, note: str = "") -> None:
        """Close failures in the scope's store, after the calls: killed in between, the calls are made again."""
        self._scope.store.settle_failures(self._scope.key, ordinals, state, note)

    def classify(self, error: BaseException) -> Fault:  # noqa: ARG002 - the port gives it
        """Always fatal: whether the call had an effect is not known, so it is not repeated."""
        return Fault.FATAL

    def close(self) -> None:
        """Nothing is held."""


class EachSink(FunctionSink[Out_contra]):
    """Calls a function output by output, and stops at the first call that raises, or when the calls take long."""

    def __init__(self, scope: Scope, function: Callable[[Any], object]) -> None:
        """Call nothing yet."""
        super().__init__(scope, function)
        self._clock, self._call = scope.clock, function
        self._pass, self._interrupted = 1, False

    def write(self, outputs: Sequence[Out_contra]) -> None:
        """Call the function with one output after another.

        Raises ItemsFailed for the first whose call raises, and without any error where its time is up or a stop is
        requested. It says how many outputs were attempted, so that the caller can go on behind it without calling
        anything twice.
        """
        began = looked = self._clock.monotonic()
        done = 0
        while done < len(outputs):
            wanted = min(self._pass, len(outputs) - done)
            self._call_each(outputs, done, done + wanted)
            done += wanted
            now = self._clock.monotonic()
            if wanted == self._pass:
                self._pass = next_pass(self._pass, now - looked)
            looked = now
            if done < len(outputs) and (self._interrupted or now - began >= CHUNK_SECONDS):
                raise ItemsFailed({}, attempted=done)

    def interrupt(self, *, now: bool) -> None:  # noqa: ARG002 - the port gives it; a call cannot be ended
        """Call the function no more than for about half a second."""
        self._interrupted = True

    def _call_each(self, outputs: Sequence[Out_contra], start: int, stop: int) -> None:
        function = self._call
        for index in range(start, stop):
            try:
                function(outputs[index])
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # A user's SystemExit is an item's failure too.
                raise ItemsFailed({index: error}, attempted=index + 1) from error


def check_function(name: str, function: object) -> None:
    """Raise DeclarationError unless it is a plain function, whose call does something by itself."""
    if not callable(function):
        raise DeclarationError(f"{name} must be given a function", f"got {function!r}")
    kind = processor_kind(function)
    if kind is not ProcessorKind.FUNCTION:
        raise DeclarationError(
            f"{name} must be given a plain function: calling this one does nothing by itself",
            f"{function_address(function)} is a kind of {kind.value}",
            "move the waiting into an async processor, and write with a plain function",
        )
