"""`manifest.json` of a file set: which files it has, with sizes and SHA-256; and which folders may be replaced.

The one rule: a folder is replaced only if it holds nothing but what its own manifest names. What a person has put there
is never removed.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchwright.model.errors import TargetError
from batchwright.writers.stages import refuse_folder, write_all

MANIFEST = "manifest.json"

_KIND = "batchwright file set"

_VERSION = 1


@dataclass(frozen=True, slots=True)
class SetManifest:
    """The files of a set: `name`, `bytes` and `sha256` of each, sorted by name."""

    files: Sequence[dict[str, Any]]

    def write(self, folder: Path, mode: int) -> bytes:
        """Put it into a folder, whole or not at all, durable but for its name; its content."""
        content = json.dumps({"kind": _KIND, "version": _VERSION, "files": self.files}, indent=1, ensure_ascii=False)
        data = content.encode() + b"\n"
        # Hidden names are no files of a set: who goes on after a kill removes it.
        new = folder / f".{MANIFEST}"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, data, 0)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(folder / MANIFEST)
        return data


def read_manifest(folder: Path) -> SetManifest | None:
    """The manifest in a folder; None if there is none, or one that is not ours."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
        if found["kind"] != _KIND or found["version"] != _VERSION:
            return None
        return SetManifest([{word: entry[word] for word in ("name", "bytes", "sha256")} for entry in found["files"]])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def listed(folder: Path) -> list[str]:
    """The names in a folder; none if it is not there."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []


def require_replaceable(path: Path) -> None:
    """Raise TargetError if this cannot become a file set, or is a folder that holds anything else. Writes nothing."""
    target = Path(os.path.realpath(path))
    try:
        found = listed(target)
    except NotADirectoryError as error:
        raise TargetError(f"{path} cannot be a file set", "it is a file", "name a folder") from error
    except OSError as error:
        raise TargetError(f"{path} cannot be looked into", os.strerror(error.errno or 0), "name another") from error
    if os.path.ismount(target):
        raise TargetError(f"{path} cannot be replaced", "it is a mount point", "name a folder in it")
    manifest = read_manifest(target)
    names = {MANIFEST, *(entry["name"] for entry in manifest.files)} if manifest is not None else set()
    others = [name for name in found if name not in names or (target / name).is_dir()]
    if others:
        shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")  # noqa: PLR2004 - so many are shown
        raise TargetError(
            f"the folder {path} cannot be replaced by a file set",
            f"it holds what no file set has put there: {shown}",
            "name a folder of its own, or move them away",
        )
    refuse_folder(path, target.parent)
