"""The stage of a file set: a folder that is filled file by file, and takes its target's place in one step.

The one rule: only what the journal says of a file counts. The journal is the stage that a single file would have (same
name, same lock, cut back in the same way); it holds a line for each file that a chunk has added to: its length, the
SHA-256 of its last 4 KiB, and what its encoder has to remember. So a checkpoint is as small for many files as for one.

The states, and what holds in each when the process dies:
  writing     the files and the journal are synced, in this order, before the checkpoint; all that is behind the
              journal's durable length, in it or in a file, is cut off, and files that it does not name are removed
  prepared    the manifest is in the folder, and its SHA-256 in the checkpoint: what holds a manifest of that digest is
              what was prepared, whether it is found in the stage or in the target
  renamed     the target is the new folder; what it was before stands in the stage's place
  published   the checkpoint says so; what was replaced is moved aside, then the journal removed: what is left to do is
              done by whoever looks next
  aside       what was replaced stands beside the target, hidden, for whoever still reads it; the next run that writes
              to this target removes it, as it begins, and so does the next publication
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchwright.model.checkpoint import StepKey
from batchwright.model.errors import BEGIN_AGAIN, DamagedOutputError, TargetError
from batchwright.model.fault_points import reach
from batchwright.model.folder import sync_folder
from batchwright.writers.linux_renames import can_exchange, exchange
from batchwright.writers.manifests import MANIFEST, SetManifest, listed, read_manifest, require_replaceable
from batchwright.writers.stages import (
    Stage,
    content_changed,
    digest,
    file_digest,
    mode_for,
    tail_of,
    write_all,
)

OPEN_FILES = 200
"""So many files are held open at once; one more, and that which was not written to for longest is synced and closed."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is written of one file. `state` belongs to its encoder."""

    length: int = 0
    tail: str = digest(b"")
    state: Mapping[str, Any] = field(default_factory=dict)


class StageFolder(Stage):
    """`.{name}.{key digest}.files` in the target's folder, mode 0700, with its journal, which is a Stage, beside it."""

    amends: bool = False

    def __init__(self, target: Path, key: StepKey) -> None:
        """Touch nothing yet."""
        super().__init__(target, key)
        self.folder: Path = self.path.with_suffix(".files")
        self.aside: Path = self.target.with_name(f".{self.target.name}.replaced")
        self.parts: dict[str, Part] = {}
        self._descriptors: dict[str, int] = {}
        self._unsynced: set[str] = set()
        self._names_synced = False

    def check_target(self) -> None:
        """Raise TargetError if the target cannot be published, or is a folder that no file set has filled."""
        require_replaceable(self.named)

    def open(self, *, create: bool) -> bool:
        """Open and lock the journal; with `create`, make the folder. See Stage.

        Raises TargetError where the target cannot be replaced in one step.
        """
        found = super().open(create=create)
        if create:
            with self._poisoning("created", self.folder):
                self.folder.mkdir(0o700, exist_ok=True)
                self._is_there()
                self._require_exchange()
            with contextlib.suppress(OSError):  # the publication tries again, and says so
                _remove_replaced(self.aside)
        return found

    def add_to(self, name: str, data: bytes, state: Mapping[str, Any]) -> bytes:
        """Write to the end of a file, which is created; the journal's line about it."""
        path, before = self.folder / name, self.parts.get(name, Part())
        length = before.length + len(data)
        with self._poisoning("written", path):
            descriptor = self._opened(name)
            write_all(descriptor, data, before.length)
            tail = digest(tail_of(descriptor, length))
        self.parts[name] = Part(length, tail, state)
        self._unsynced.add(name)
        reach("K8")
        said = {"file": name, "length": length, "tail": tail} | ({} if state == before.state else {"state": state})
        return json.dumps(said).encode() + b"\n"

    def sync(self) -> None:
        """Make the files durable, then their names, then the journal."""
        with self._poisoning("synced", self.folder):
            for name in sorted(self._unsynced):
                os.fsync(self._opened(name))
            self._unsynced.clear()
            if not self._names_synced:
                sync_folder(self.folder)
                self._names_synced = True
        super().sync()

    def truncate(self, length: int) -> None:
        """Cut back the journal, then every file to what it says of it; remove the others.

        Raises DamagedOutputError, with no file changed, if one is shorter than that, or another.
        """
        super().truncate(length)
        self.parts = self._journal(length)
        if changed := self._files_changed(self.parts):
            raise self._damaged(changed)
        self._close_files()
        self._unsynced.clear()
        self._names_synced = False
        if self._is_there():
            with self._poisoning("cut back", self.folder):
                self._cut_back()

    def changed(self, state: Mapping[str, Any]) -> str:
        """How journal or files differ from what a checkpoint says of them; of what is prepared, the manifest too."""
        if (changed := super().changed(state)) or self._descriptor < 0:
            return changed
        prepared = state["phase"] == "prepared"
        if prepared and self._manifest_digest(self.folder) != state["sha256"]:
            return f"{self.folder} is not the folder that was prepared"
        return self._files_changed(self._journal(state["length"]))

    def prepare(self) -> str:
        """Give folder and files their modes, write the manifest, make all of it durable; the manifest's SHA-256."""
        self.sync()
        self._close_files()
        with self._poisoning("prepared", self.folder):
            mode = mode_for(self.target / MANIFEST)
            entries = [self._prepare_file(name, mode) for name in sorted(self.parts)]
            found = {entry.name for entry in os.scandir(self.folder)} - {MANIFEST}
            if found != set(self.parts):
                raise self._damaged(f"{self.folder} holds {', '.join(sorted(found ^ set(self.parts))[:5])}")
            content = SetManifest(entries).write(self.folder, mode)
            self.folder.chmod(mode_for(self.target, 0o777))
            sync_folder(self.folder)
        return digest(content)

    def replace_target(self) -> None:
        """Put the folder in the target's place in one step; what the target was stands in the stage's place then."""
        self._close_files()
        with self._poisoning("renamed", self.folder):
            if listed(self.target):
                require_replaceable(self.named)
                exchange(self.folder, self.target)
            else:
                self.folder.replace(self.target)

    def target_holds(self, state: Mapping[str, Any]) -> bool:
        """Whether the target is, file by file, what was prepared."""
        manifest = None if self.target_changed(state) else read_manifest(self.target)
        return manifest is not None and all(
            file_digest(self.target / entry["name"]) == entry["sha256"] for entry in manifest.files
        )

    def target_changed(self, state: Mapping[str, Any]) -> str:
        """How the target differs from what was published, in words, as far as manifest, names and sizes tell."""
        if not self.target.is_dir():
            return "it is gone"
        manifest = read_manifest(self.target)
        if manifest is None or self._manifest_digest(self.target) != state["sha256"]:
            return f"its {MANIFEST} is gone" if manifest is None else f"its {MANIFEST} is another"
        for entry in manifest.files:
            path = self.target / entry["name"]
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                return f"{path.name} is gone"
            if size != entry["bytes"]:
                return f"{path.name} holds {size:,} bytes instead of {entry['bytes']:,}"
        return ""

    def clear(self) -> None:
        """Move aside what was replaced, if it was, then remove the journal, and let go of it."""
        if self._descriptor >= 0 and not self.poisoned:
            try:
                self._move_aside()
                self.path.unlink(missing_ok=True)
            except OSError as error:
                # The new set is published and said to be; the next run, which looks here first, tries again.
                logging.getLogger("batchwright").warning("%s: %s", self.named, error)
        self.close()

    def remove(self) -> None:
        """Remove folder and journal, and let go of them: what they hold is never published."""
        self._close_files()
        with self._poisoning("removed", self.folder):
            if self._is_there():
                shutil.rmtree(self.folder)
        super().remove()

    def let_go(self) -> None:
        """Close everything without unlocking."""
        self._close_files()
        super().let_go()

    def _move_aside(self) -> None:
        """Who reads the old set goes on reading it. Where its place is taken by what is not ours, it is removed."""
        if not self._is_there():
            return
        _remove_replaced(self.aside)
        if os.path.lexists(self.aside):
            _remove_replaced(self.folder)
        else:
            self.folder.replace(self.aside)

    def _is_there(self) -> bool:
        """Whether there is a folder. Raises TargetError if its name has been taken by something else."""
        try:
            found = self.folder.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(found.st_mode):
            raise TargetError(f"{self.folder} is not a stage of ours", "it is a file or a link", "remove it")
        return True

    def _opened(self, name: str) -> int:
        """A descriptor of a file, which is kept; of too many, the one used longest ago is closed, after a sync."""
        descriptor = self._descriptors.pop(name, None)
        if descriptor is None:
            while len(self._descriptors) >= OPEN_FILES:
                oldest = next(iter(self._descriptors))
                # Another descriptor, opened later, need not hear of an error that this one would have heard of.
                os.fsync(self._descriptors[oldest])
                self._unsynced.discard(oldest)
                os.close(self._descriptors.pop(oldest))
            new = name not in self.parts
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT | os.O_EXCL if new else 0)
            descriptor = os.open(self.folder / name, flags, 0o600)
            self._names_synced = self._names_synced and not new
        self._descriptors[name] = descriptor
        return descriptor

    def _close_files(self) -> None:
        while self._descriptors:
            _, descriptor = self._descriptors.popitem()
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _journal(self, length: int) -> dict[str, Part]:
        """What the journal, up to this length, says of each file."""
        parts: dict[str, Part] = {}
        try:
            with os.fdopen(os.dup(self._descriptor), "rb") as lines:
                lines.seek(0)
                for line in lines:
                    length -= len(line)
                    if length < 0:
                        break
                    said = json.loads(line)
                    before = parts.get(said["file"], Part())
                    parts[said["file"]] = Part(said["length"], said["tail"], said.get("state", before.state))
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"somebody has changed {self.path}") from error
        return parts

    def _files_changed(self, parts: Mapping[str, Part]) -> str:
        for name, part in parts.items():
            path = self.folder / name
            try:
                with _reading(path) as descriptor:
                    changed = content_changed(descriptor, path, part.length, part.tail)
            except OSError as error:
                changed = f"{path}: {os.strerror(error.errno or 0)}, {part.length:,} bytes of it are committed"
            if changed:
                return changed
        return ""

    def _cut_back(self) -> None:
        removed = False
        for entry in list(os.scandir(self.folder)):
            if entry.name in self.parts:
                _truncate(self.folder / entry.name, self.parts[entry.name].length)
            elif entry.name != MANIFEST:
                removed = True
                shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()
        if removed:
            sync_folder(self.folder)

    def _prepare_file(self, name: str, mode: int) -> dict[str, Any]:
        path, length = self.folder / name, self.parts[name].length
        with _reading(path) as descriptor:
            if os.fstat(descriptor).st_size != length:
                raise self._damaged(f"{path} holds {os.fstat(descriptor).st_size:,} bytes instead of {length:,}")
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
            os.lseek(descriptor, 0, os.SEEK_SET)
            with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        return {"name": name, "bytes": length, "sha256": found}

    def _require_exchange(self) -> None:
        if listed(self.target) and not can_exchange(self.folder):
            raise TargetError(
                f"{self.named} cannot be replaced in one step",
                "this system, or its file system, cannot exchange two folders",
                "remove the old folder first, or write to one that is new, for example with the day in its name",
            )

    def _manifest_digest(self, folder: Path) -> str:
        path = folder / MANIFEST
        return file_digest(path) if path.is_file() else ""

    def _damaged(self, found: str) -> DamagedOutputError:
        return DamagedOutputError(
            f"{self.named} cannot be gone on with: what was written of it is not as it was left",
            found,
            f"restore it, or {BEGIN_AGAIN}",
        )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _truncate(path: Path, length: int) -> None:
    with _reading(path) as descriptor:
        if os.fstat(descriptor).st_size != length:
            os.ftruncate(descriptor, length)
            os.fsync(descriptor)


def _remove_replaced(folder: Path) -> None:
    """Remove an older file set, and nothing that is not part of it."""
    manifest, found = read_manifest(folder), listed(folder)
    ours = {entry["name"] for entry in manifest.files} if manifest else set()
    # Of what is found, and not of what the manifest says: whoever has written that may have meant other folders.
    for name in ours.intersection(found):
        (folder / name).unlink()
    rest = sorted(set(found) - ours - {MANIFEST})
    if rest:
        kept = f"what was in the replaced folder and in no file set stays in {folder}: {', '.join(rest[:5])}"
        logging.getLogger("batchwright").warning("%s", kept)
        return
    # Last of all: without it nobody would know what else may be removed.
    (folder / MANIFEST).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rmdir()
