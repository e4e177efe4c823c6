"""A published file gets more outputs at its end, and is published anew: what a replay does with files.

The one rule: file and failures change together. What a kill leaves between them is brought to an end by whoever looks
next, a run or a replay, before anything else is done.

The states, and what holds in each when the process dies (A is the file as it was, B the file with the outputs):
  published   the file is A; a stage beside it, if there is one, is nobody's and is begun anew
  amended     B is whole and durable in the stage, and the checkpoint says so: with its size and SHA-256, with those of
              A, and with the failures that B closes. They are still open. The file is A or, once renamed, B. If it is
              B, or the stage is, B is published. If the stage is gone, the file is A still, and stays it, with nothing
              closed
  published   the file is B; in the same transaction the checkpoint says so and the failures are closed
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import GroundChangedError, ItemsFailed
from batchwright.model.failure import FailureState
from batchwright.model.fault_points import reach
from batchwright.model.guarantee import Fault
from batchwright.ports import Scope
from batchwright.writers.encoders import Encoder
from batchwright.writers.stages import Stage, file_digest

AMENDED, PUBLISHED = "amended", "published"

CLOSED_AT_ONCE = 100_000
"""So many failures are closed by one publication at most: their numbers stand in the checkpoint."""


class AmendingSink:
    """Outputs to be added to a published file. They count once `publish` has returned."""

    def __init__(self, path: Path, scope: Scope, encoder: Encoder[Any], published: Checkpoint) -> None:
        """Touch nothing yet. Raises GroundChangedError if the file was written in another form."""
        self._path = path
        self._scope = scope
        self._encoder = encoder
        self._published = published
        self._stage = Stage(path, scope.key)
        self._closed: list[int] = []
        self._length = -1
        if published.state["form"] != encoder.form:
            raise GroundChangedError(
                f"{path} was written in another form",
                f"it was {published.state['form']} and is now {encoder.form}",
                "declare it as before, or write it again with --again",
            )
        encoder.restore(published.state)

    def write(self, outputs: Sequence[Any]) -> None:
        """Encode outputs into memory. Raises ItemsFailed for those that cannot be; all others are kept."""
        errors = self._encoder.add(outputs)
        if errors:
            raise ItemsFailed(errors)

    def settle(self, ordinals: Sequence[int], state: FailureState = FailureState.REPLAYED, note: str = "") -> None:
        """Add the outputs to the stage; the failures are closed when it is published."""
        del state, note  # others are closed in the ledger, where a file keeps its failures
        data = self._encoder.take()
        if data:
            self._copy()
            self._append(data if self._length else self._encoder.head() + data)
        self._closed.extend(ordinals)
        if len(self._closed) >= CLOSED_AT_ONCE:
            self.publish()

    def publish(self) -> None:
        """Put the file with the outputs in the place of the one without, and close their failures."""
        closed, self._closed = self._closed, []
        if not closed:
            return
        if self._length < 0:
            # Their items have no outputs: the file stays as it is.
            self._scope.store.settle_failures(self._scope.key, closed)
            return
        state = {
            **self._encoder.state(),
            "phase": AMENDED,
            "form": self._encoder.form,
            "length": self._length,
            "tail": hashlib.sha256(self._stage.tail(self._length)).hexdigest(),
            "sha256": self._stage.prepare(),
            "before": dict(self._published.state),
            "closes": closed,
        }
        reach("K14")
        amended = replace(self._published, state=state)
        self._scope.store.save_checkpoint(self._scope.key, amended, ())
        self._length = -1
        self._published = end_amending(self._stage, self._scope, amended)

    def rollback(self) -> None:
        """Forget the outputs since the last `settle`."""
        self._encoder.drop()

    def classify(self, error: BaseException) -> Fault:
        """Text that the encoding cannot express is refused; everything else ends the replay."""
        return Fault.REFUSED if isinstance(error, UnicodeError) else Fault.FATAL

    def close(self) -> None:
        """Let go of the stage. What was not published is gone."""
        self.rollback()
        if self._length >= 0:
            self._stage.discard()
        self._stage.close()

    def _copy(self) -> None:
        """Begin the stage as a copy of the file, once. Raises GroundChangedError if that is not what was published."""
        if self._length >= 0:
            return
        self._stage.open(create=True)
        self._stage.truncate(0)
        self._length, digest = 0, hashlib.sha256()
        with self._stage.target.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
                self._append(data)
        if digest.hexdigest() != self._published.state["sha256"]:
            self._stage.discard()
            self._length = -1
            raise GroundChangedError(
                f"{self._path} is not as this step left it, so nothing is added to it",
                "somebody has changed it since",
                "put it back, or write it again with --again",
            )

    def _append(self, data: bytes) -> None:
        self._stage.append(data, self._length)
        self._length += len(data)


def end_amending(stage: Stage, scope: Scope, amended: Checkpoint) -> Checkpoint:
    """Bring a publication to its end, or, where its stage is lost, back; the checkpoint that holds then.

    Raises GroundChangedError if the file is neither as it was nor as it should become.
    """
    state = amended.state
    if not _holds(stage.target, state):
        _require_as_before(stage.target, state["before"])
        if not (stage.open(create=False) and _holds(stage.path, state)):
            published = replace(amended, state=state["before"])
            scope.store.save_checkpoint(scope.key, published, ())
            return published
        stage.replace_target()
        reach("K15")
    stage.sync_target()
    reach("K16")
    kept = {name: value for name, value in state.items() if name not in ("before", "closes")}
    published = replace(amended, state={**kept, "phase": PUBLISHED})
    scope.store.settle_failures(scope.key, state["closes"], checkpoint=published)
    stage.close()
    return published


def _require_as_before(target: Path, before: Mapping[str, Any]) -> None:
    if not _holds(target, before):
        raise GroundChangedError(
            f"{target} is not as this step left it, so it is not published anew",
            "somebody has changed it since",
            "put it back, or write it again with --again",
        )


def _holds(path: Path, state: Mapping[str, Any]) -> bool:
    same_size = path.is_file() and path.stat().st_size == state["length"]
    return same_size and file_digest(path) == state["sha256"]
