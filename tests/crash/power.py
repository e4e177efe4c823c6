"""A power cut for files: after the kill, whatever was not synced is taken away from the folder of outputs.

The one rule: only what `os.fsync` was asked for counts. What SQLite writes is not modelled here: `test_durability.py`
looks at its own calls.

The recorder, in the process that will be killed, notes each sync of a file (its inode and length) and of the folder
(which name stands for which inode). `cut` goes back to the last of these: bytes beyond a synced length are gone or
garbage, names that no sync of the folder has seen are gone, a rename that none has seen is undone.
"""

import json
import os
import random
import stat
from pathlib import Path
from typing import Any

KEPT = "replaced"


def record(folder: Path) -> None:
    """Note every sync from here on. What is there now counts as synced: the machine has just been started."""
    out, log = folder / "out", _log_of(folder)
    kept = folder / KEPT
    kept.mkdir(exist_ok=True)
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            _note(log, {"names": _names(out)})
        else:
            _note(log, {"file": found.st_ino, "length": found.st_size})

    def recorded_replace(source: Any, target: Any, **options: Any) -> None:
        if Path(target).exists() and Path(target).parent == out:
            (kept / str(Path(target).stat().st_ino)).hardlink_to(target)
        replace(source, target, **options)

    log.unlink(missing_ok=True)
    _note(log, {"names": _names(out)})
    for path in _files(out):
        _note(log, {"file": path.stat().st_ino, "length": path.stat().st_size})
    os.fsync, os.replace = recorded_fsync, recorded_replace


def cut(folder: Path, chance: random.Random | None = None) -> None:
    """Lose what was not synced; with `chance`, only some of it, or not all in the same way."""
    names, lengths = _durable(_log_of(folder))
    out, kept = folder / "out", folder / KEPT
    there = {path.stat().st_ino: path for path in _files(out)}
    for inode, path in there.items():
        _lose_tail(path, lengths.get(inode, 0), chance.choice(("cut", "zeros", "kept")) if chance else "cut")
    if chance is None or chance.random() < 0.5:
        by_inode = {inode: name for name, inode in names.items()}
        for inode, path in there.items():
            if inode not in by_inode:
                path.unlink()
            elif path.name != by_inode[inode]:
                path.rename(out / by_inode[inode])
        for name, inode in names.items():
            if inode not in there and (kept / str(inode)).exists():
                (kept / str(inode)).rename(out / name)
    for path in _files(kept):
        path.unlink()


def _lose_tail(path: Path, length: int, how: str) -> None:
    lost = path.stat().st_size - length
    if lost <= 0 or how == "kept":
        return
    os.truncate(path, length)
    if how == "zeros":
        with path.open("ab") as file:
            file.write(bytes(lost))


def _durable(log: Path) -> tuple[dict[str, int], dict[int, int]]:
    names: dict[str, int] = {}
    lengths: dict[int, int] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if "names" in event:
            names = event["names"]
        else:
            lengths[event["file"]] = event["length"]
    return names, lengths


def _note(log: Path, event: dict[str, Any]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (json.dumps(event) + "\n").encode())
    os.close(descriptor)


def _names(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in _files(out)}


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_file()] if folder.is_dir() else []


def _log_of(folder: Path) -> Path:
    return folder / "synced.log"
