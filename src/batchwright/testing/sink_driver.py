"""Drives the sinks of a writer as the engine does, and remembers what a crash at each moment would leave behind.

The one rule: a crash is what lies in the folder and in the store at that moment, and nothing else.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchwright.abilities import Remembers
from batchwright.model.block import Place, Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.distinct import KeySpace, SeenKeys
from batchwright.model.failure import Failure, Phase
from batchwright.ports import Scope, Sink, Writer
from batchwright.testing.fake_clock import FakeClock
from batchwright.testing.memory_store import MemoryStore

KEY = StepKey("conformance", "0123456789abcdef", 1, "write")

_EVERY_FAILING_ITEM = 4
_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Moment:
    """What a crash leaves: the files with their modes, and the store. `name` says when it was."""

    name: str
    files: dict[Path, tuple[bytes, int]]
    store: MemoryStore


class SinkDriver:
    """Writes `outputs`, one an item, through sinks of a writer; every fourth item fails instead and has no output.

    `moments` fills up while `run` goes on: before and after each call of the sink, and around each save in the store.
    """

    def __init__(
        self,
        make_writer: Callable[[Path], Writer[Any]],
        outputs: Sequence[Any],
        folder: Path,
        *,
        checkpoint_seconds: float = 0.0,
    ) -> None:
        """Use this folder, which must be there, and a store and clock of its own."""
        self.outputs = outputs
        self.folder = folder
        self.store: MemoryStore = MemoryStore()
        self.clock: FakeClock = FakeClock()
        self.moments: list[Moment] = []
        self.recalled: int = 0
        self._make_writer = make_writer
        self._checkpoint_seconds = checkpoint_seconds

    def open(self) -> Sink[Any]:
        """A new sink, as a new process would open it."""
        store = _WatchedStore(self.store, self._note)
        scope = Scope(KEY, store, self.clock, self._checkpoint_seconds, keys=KeySpace(KEY))
        return self._make_writer(self.folder).open(scope)

    def run(self, chunk_size: int) -> None:
        """Go on from wherever the target says, to the end."""
        sink = self.open()
        try:
            checkpoint = self.recall(sink)
            if checkpoint is not None and checkpoint.finished:
                return
            for start in range(self.recalled, len(self.outputs), chunk_size):
                self.write_chunk(sink, start, min(start + chunk_size, len(self.outputs)))
            sink.finish(self.checkpoint(len(self.outputs)))
            self._note("finished")
        finally:
            sink.close()

    def recall(self, sink: Sink[Any]) -> Checkpoint | None:
        """Recall, and make sure that the failures and keys kept are exactly those before the checkpoint."""
        checkpoint = sink.recall()
        self.recalled = 0 if checkpoint is None else checkpoint.position.ordinal
        kept = [failure.ordinal for failure in sink.failures()]
        expected = [failure.ordinal for failure in self.failures(0, self.recalled)]
        assert kept == expected, f"failures at {kept} are kept with a checkpoint at {self.recalled}"
        if isinstance(sink, Remembers):
            known, seen = sink.known(self.keys(0, len(self.outputs))), self.keys(0, self.recalled)
            assert known == set(seen), f"{len(known)} keys are known with a checkpoint at {self.recalled}"
        self._note("recalled")
        return checkpoint

    def write_chunk(self, sink: Sink[Any], start: int, end: int) -> None:
        """Write and commit the items from `start` to before `end`."""
        outputs = [self.outputs[ordinal] for ordinal in range(start, end) if not fails(ordinal)]
        if outputs:
            sink.write(outputs)
            self._note(f"written {start}-{end}")
        self.remember(sink, start, end)
        sink.commit(self.checkpoint(end), self.failures(start, end))
        self._note(f"committed {start}-{end}")
        self.clock.advance(0.4)

    def remember(self, sink: Sink[Any], start: int, end: int) -> None:
        """Have the keys of these items kept with the next commit, by a sink that can."""
        if isinstance(sink, Remembers):
            sink.remember(self.keys(start, end))
            self._note(f"remembered {start}-{end}")

    def checkpoint(self, ordinal: int, outputs: int | None = None) -> Checkpoint:
        """The checkpoint before this item, with so many outputs written; by default one for each item before it."""
        failed = len(self.failures(0, ordinal))
        written = ordinal - failed if outputs is None else outputs
        counts = Counts(
            read=ordinal,
            written=written,
            filtered=ordinal - failed - written,
            failed_process=failed,
            outputs=written,
            commits=ordinal,
        )
        return Checkpoint(Position(ordinal, [ordinal, "anchor"], 0), counts)

    def failures(self, start: int, end: int) -> list[Failure]:
        """The failures of the items from `start` to before `end`."""
        return [self._failure(ordinal) for ordinal in range(start, end) if fails(ordinal)]

    def keys(self, start: int, end: int) -> list[bytes]:
        """The keys of the items from `start` to before `end`: one each, but for those that fail."""
        return [ordinal.to_bytes(16, "big") for ordinal in range(start, end) if not fails(ordinal)]

    def expected(self) -> list[Any]:
        """Every output, once and in order."""
        return [output for ordinal, output in enumerate(self.outputs) if not fails(ordinal)]

    def crash(self, moment: Moment) -> None:
        """Be in the world as it was at this moment. All sinks must be closed."""
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        for path, (content, mode) in moment.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(mode)
        self.store = moment.store.copy()

    def _failure(self, ordinal: int) -> Failure:
        place = Place("conformance", ordinal + 1)
        return Failure("write", Position(ordinal), Phase.PROCESS, "ValueError", "planted", 1, place, _AT)

    def _note(self, name: str) -> None:
        files = {
            path: (path.read_bytes(), path.stat().st_mode & 0o777)
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }
        self.moments.append(Moment(name, files, self.store.copy()))


def fails(ordinal: int) -> bool:
    """Whether this item is one of those that fail."""
    return ordinal % _EVERY_FAILING_ITEM == _EVERY_FAILING_ITEM - 1


class _WatchedStore:
    """The driver's store, with a moment before and after each save."""

    def __init__(self, store: MemoryStore, note: Callable[[str], None]) -> None:
        self._store = store
        self._note = note
        self.load_checkpoint = store.load_checkpoint
        self.load_failures = store.load_failures
        self.known_keys = store.known_keys
        self.settle_failures = store.settle_failures

    def save_checkpoint(
        self, key: StepKey, checkpoint: Checkpoint, failures: Sequence[Failure], seen: SeenKeys | None = None
    ) -> None:
        self._note(f"before the save at {checkpoint.position.ordinal}")
        self._store.save_checkpoint(key, checkpoint, failures, seen)
        self._note(f"after the save at {checkpoint.position.ordinal}")
