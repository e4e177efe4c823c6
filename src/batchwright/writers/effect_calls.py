"""Effects outside as a step's target: one call for each output, logged before and after, and never made twice if known.

The one rule: no call begins before its intent is durable, and none before the receipt of the one before it is. The end
of one and the intent of the next are one commit, so that a crash leaves at most one call of which nothing is known. How
an effect gets from state to state stands in `model/effect.py`.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.codec import decode, encode
from batchwright.model.effect import (
    Effect,
    EffectState,
    NumberedOutput,
    effect_key,
    keepable_output,
    keepable_receipt,
)
from batchwright.model.errors import CodecError, DeclarationError, ItemsFailed, LedgerError, WriteError
from batchwright.model.failure import Failure, FailureState
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Guarantee
from batchwright.model.pace import CHUNK_SECONDS
from batchwright.model.processor import function_address
from batchwright.model.secrets import HIDDEN, scrub
from batchwright.ports import Scope
from batchwright.ports.effects import EffectLog
from batchwright.writers.functions import FunctionSink, check_function

Out = TypeVar("Out")
Out_contra = TypeVar("Out_contra", contravariant=True)

MAX_ERROR_CHARACTERS = 4_000

CLOSE = 100


def effects(
    function: Callable[[Out, str], object],
    *,
    ask: Callable[[str], object] | None = None,
    honours_key: bool = False,
    redact: Sequence[str] = (),
) -> "Effects[Out]":
    """A writer that calls `function(output, key)` once for every output, and logs each call in the ledger.

    The key is the same whenever this output of this item is called for, in any run. What the function returns is kept
    as the receipt: None, a number, a text, a dict of such. A call that is known to have been made is never made again.
    One that a crash interrupted may have been made or not: `ask(key)` returns its receipt, or None if there was none;
    without `ask` the call is made again, under the same key. So an effect takes place once if there is an `ask`, or if
    the receiver does nothing for a key that it knows: say so with `honours_key=True`. Otherwise the one call that a
    crash interrupts may take effect twice.

    An output whose call raises is tried again as the step's `retry` allows; then it is that item's failure. Fields
    named in `redact` are not kept. The step's `compensate=` can undo the effects. Raises DeclarationError for what
    cannot be called so.
    """
    check_function("effects", function)
    _require_arguments("effects", function, ("output", "key"))
    if ask is not None:
        check_function("effects: ask", ask)
        _require_arguments("effects: ask", ask, ("key",))
    if isinstance(redact, str):
        raise DeclarationError("effects: redact must be a list of names", f"got the text {redact!r}")
    return Effects(function, ask, honours_key, tuple(redact))


@dataclass(frozen=True)
class Effects(Generic[Out_contra]):
    """A function of an output and its key as the target of a step."""

    function: Callable[[Any, str], object]
    ask: Callable[[str], object] | None = None
    honours_key: bool = False
    redact: tuple[str, ...] = ()

    logs_effects = True
    """A step may have `compensate=`."""

    adds_again = True
    """Beginning again makes every call again, under other keys."""

    @property
    def guarantee(self) -> Guarantee:
        """Effectively once where an interrupted call can be asked for, or made again without effect."""
        return Guarantee.EFFECTIVELY_ONCE if self.ask is not None or self.honours_key else Guarantee.AT_LEAST_ONCE

    @property
    def address(self) -> str:
        """`effects` and the function's name, with its module."""
        return f"effects {function_address(self.function)}"

    @property
    def may_happen_twice(self) -> str:
        """What a crash may repeat, in plain words."""
        if self.ask is not None:
            return "no call: one that a crash interrupts is asked for, and made only if there was none"
        repeated = "the one call that a crash interrupts is made again, under the same key"
        if self.honours_key:
            return f"no effect: {repeated}, which its receiver honours"
        return f"{repeated}: twice, if its receiver does not know the key; no other call"

    def open(self, scope: Scope) -> "EffectSink[Out_contra]":
        """A sink that calls the function. Raises LedgerError if the ledger keeps no effects."""
        if not isinstance(scope.store, EffectLog):
            raise LedgerError(
                f"step '{scope.key.step}': this ledger keeps no log of effects",
                f"a {type(scope.store).__name__}",
                "use the SQLite, the PostgreSQL or the memory ledger",
            )
        return EffectSink(scope, self, scope.store)


class EffectSink(FunctionSink[Out_contra]):
    """Calls a function output by output, each call between two entries in the log."""

    takes_ordinals = True

    def __init__(self, scope: Scope, writer: Effects[Any], log: EffectLog) -> None:
        """Call nothing yet."""
        super().__init__(scope, lambda outputs: None)  # noqa: ARG005 - outputs are written one by one, below
        self._writer, self._log = writer, log
        self._known: dict[tuple[int, int], Effect] = {}
        self._loaded: set[int] = set()
        self._interrupted = False

    def interrupt(self, *, now: bool) -> None:  # noqa: ARG002 - the port gives it; a call cannot be ended
        """Make no more calls in this chunk than the one in work."""
        self._interrupted = True

    def write(self, outputs: Sequence[Any]) -> None:
        """Make the calls that are not known to have been made.

        Raises ItemsFailed for the first that raises, and without any error where its time is up or a stop is requested,
        with the number of outputs attempted; WriteError if a receipt cannot be kept: its call is logged as done all the
        same.
        """
        began = self._scope.clock.monotonic()
        self._load(outputs)
        done: list[Effect] = []
        for index, numbered in enumerate(outputs):
            known = self._known.get((numbered.ordinal, numbered.index))
            if known is not None and known.state is EffectState.DONE:
                continue
            intent, output = self._intent(numbered, known)
            self._save([*done, intent])
            reach("K24")
            try:
                receipt = self._call(intent, output, known)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                # A user's SystemExit is an item's failure too.
                self._save([replace(intent, state=EffectState.FAILED, error=self._described(error))])
                raise ItemsFailed({index: error}, attempted=index + 1) from error
            reach("K25")
            done = [self._done(intent, receipt)]
            now = self._scope.clock.monotonic()
            self._scope.called(numbered.ordinal, now)
            late = self._interrupted or now - began >= CHUNK_SECONDS
            if late and index + 1 < len(outputs):
                self._save(done)
                raise ItemsFailed({}, attempted=index + 1)
        if done:
            self._save(done)

    def commit(self, checkpoint: Checkpoint, failures: Sequence[Failure]) -> None:
        """Store checkpoint and failures in one transaction. Every call is in the log by now."""
        super().commit(checkpoint, failures)
        self._forget()

    def settle(self, ordinals: Sequence[int], state: FailureState = FailureState.REPLAYED, note: str = "") -> None:
        """Close failures in the scope's store, after the calls. Killed in between, none that is known is made again."""
        super().settle(ordinals, state, note)
        self._forget()

    def rollback(self) -> None:
        """Nothing is undone: what was called stays called, and is in the log."""
        self._forget()

    def _load(self, outputs: Sequence[NumberedOutput]) -> None:
        for numbered in outputs:
            if not isinstance(numbered, NumberedOutput):
                raise WriteError(
                    f"step '{self._scope.key.step}': an output came without its item",
                    "an effect's key is made of its item's place in the input",
                    "run the step, or resume it: other ways to write do not lead here",
                )
        wanted = {numbered.ordinal for numbered in outputs}
        if wanted <= self._loaded:
            return
        self._forget()
        for start, end in _stretches(sorted(wanted)):
            for effect in self._log.load_effects(self._scope.key, start, end):
                self._known[effect.ordinal, effect.index] = effect
        self._loaded = wanted

    def _intent(self, numbered: NumberedOutput, known: Effect | None) -> tuple[Effect, Any]:
        """What is about to be called, and with which output."""
        kept = keepable_output(numbered.output, self._scope.secrets, self._writer.redact)
        output = numbered.output
        if known is not None and known.state is EffectState.INTENT:
            # Nobody knows whether it was called. A key stands for one call, so it is made again as it was announced,
            # even if the step makes another output of the item now.
            before = known.stored_output
            if before is not None and before != kept and HIDDEN not in before and self._writer.ask is None:
                output, kept = decode(before), before
        key = effect_key(self._scope.key, numbered.ordinal, numbered.index)
        return Effect(numbered.ordinal, numbered.index, key, EffectState.INTENT, kept), output

    def _call(self, intent: Effect, output: Any, known: Effect | None) -> object:
        if (known is not None or self._scope.asks) and self._writer.ask is not None:
            receipt = self._writer.ask(intent.key)
            if receipt is not None:
                return receipt
        return self._writer.function(output, intent.key)

    def _done(self, intent: Effect, receipt: object) -> Effect:
        try:
            kept = keepable_receipt(receipt, self._scope.secrets)
        except (CodecError, RecursionError) as error:
            self._save([replace(intent, state=EffectState.DONE, stored_receipt=encode(None))])
            raise WriteError(
                f"step '{self._scope.key.step}': the receipt of a call cannot be kept",
                f"{self._writer.address} returned a {type(receipt).__name__}; {error}",
                "return None, an id, or a dict of plain values; the call is logged as done and is not made again",
            ) from error
        return replace(intent, state=EffectState.DONE, stored_receipt=kept)

    def _save(self, effects: Sequence[Effect]) -> None:
        self._log.save_effects(self._scope.key, effects)
        self._known.update({(effect.ordinal, effect.index): effect for effect in effects})

    def _described(self, error: BaseException) -> str:
        try:
            text = f"{type(error).__qualname__}: {error}"
        except Exception:  # noqa: BLE001 - a user's exception may do anything
            text = type(error).__qualname__
        return scrub(text, self._scope.secrets)[:MAX_ERROR_CHARACTERS]

    def _forget(self) -> None:
        self._known, self._loaded = {}, set()


def _stretches(ordinals: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where to look for these: in one piece as long as they are close; those of a replay may be far apart."""
    start = before = ordinals[0] if ordinals else 0
    for ordinal in ordinals:
        if ordinal - before > CLOSE:
            yield start, before + 1
            start = ordinal
        before = ordinal
    if ordinals:
        yield start, before + 1


def _require_arguments(name: str, function: Callable[..., object], arguments: Sequence[str]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # some built-in functions have none to look at
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise DeclarationError(
            f"{name} must be given a function of {' and '.join(arguments)}",
            f"{function_address(function)} takes {signature}",
            f"write def {getattr(function, '__name__', 'call')}({', '.join(arguments)}): …",
        ) from error
