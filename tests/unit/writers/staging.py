"""What the tests of staged files share: a sink on a folder, checkpoints, and a disk that loses what was not synced."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from batchwright.model.block import Position
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.ports import Scope, Sink, Writer
from batchwright.testing.fake_clock import FakeClock
from batchwright.testing.memory_store import MemoryStore
from batchwright.testing.sink_driver import KEY, Moment, SinkDriver
from batchwright.writers import text_file

LINES = [f"line {number}" for number in range(10)]


def checkpoint(ordinal: int) -> Checkpoint:
    return Checkpoint(Position(ordinal, [ordinal]), Counts(read=ordinal, written=ordinal, outputs=ordinal))


def scope(store: MemoryStore, clock: FakeClock | None = None, seconds: float = 0.0, key: StepKey = KEY) -> Scope:
    return Scope(key, store, clock or FakeClock(), seconds)


@contextmanager
def opened(writer: Writer[Any], store: MemoryStore, **options: Any) -> Iterator[Sink[Any]]:
    """A sink that has recalled."""
    sink = writer.open(scope(store, **options))
    try:
        sink.recall()
        yield sink
    finally:
        sink.close()


def publish(writer: Writer[Any], *chunks: list[Any], store: MemoryStore | None = None) -> None:
    """Write each chunk, commit it, and finish."""
    with opened(writer, MemoryStore() if store is None else store) as sink:
        written = 0
        for chunk in chunks:
            sink.write(chunk)
            written += len(chunk)
            sink.commit(checkpoint(written), ())
        sink.finish(checkpoint(written))


def driver_in(folder: Path, **options: Any) -> SinkDriver:
    folder.mkdir(parents=True, exist_ok=True)
    return SinkDriver(lambda place: text_file(place / "out"), LINES, folder, **options)


def stage_in(folder: Path) -> Path:
    return folder / f".out.{KEY.digest}.stage"


class ForgetfulDisk:
    """Knows which bytes and names were synced: what a power cut leaves. Put its `fsync` in the place of `os.fsync`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._fsync: Callable[[int], None] = os.fsync

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._contents[found.st_ino] = os.pread(descriptor, found.st_size, 0)

    def moment(self, name: str, store: MemoryStore) -> Moment:
        files = {path: (content, 0o600) for path, content in self._walk(self._folder, self._folder.stat().st_ino)}
        return Moment(f"power cut at {name}", files, store.copy())

    def _walk(self, folder: Path, inode: int) -> Iterator[tuple[Path, bytes]]:
        for name, child in self._names.get(inode, {}).items():
            if child in self._contents:
                yield folder / name, self._contents[child]
            else:
                yield from self._walk(folder / name, child)


def forget_syncs(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """Let the disk take no notice of syncs, of every "file" or of every "folder"."""

    def forget(self: ForgetfulDisk, descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir() != (forgotten == "folder"):
            honest(self, descriptor)

    honest = ForgetfulDisk.fsync
    monkeypatch.setattr(ForgetfulDisk, "fsync", forget)
