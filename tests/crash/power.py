"""A power cut: after the kill, whatever was not synced is taken away, from the folder of outputs and from databases.

The one rule: only what was asked for counts. For a file that is each `os.fsync`. For a database it is the level at
which SQLite syncs when it commits, read back at each commit: below the one that is durable in its journal mode, all
since the machine was started is lost. The ledger never is: it is worst if it remembers what targets have lost. That
SQLite does as it is told, `test_durability.py` sees in its system calls.

The recorder, in the process that will be killed, notes each sync of a file (its inode and length) and of the folder
(which name stands for which inode), and keeps a copy of each database. `cut` goes back to the last of these: bytes
beyond a synced length are gone or garbage, names that no sync of the folder has seen are gone, a rename that none has
seen is undone, a database whose commits were not synced is as it was.
"""

import json
import os
import random
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

from batchwright.databases import sqlite

KEPT, BEFORE = "replaced", "databases"

DURABLE = {"wal": 2, "delete": 3}
"""FULL, and EXTRA where the deletion of a journal is the commit."""


def is_durable(connection: Any) -> bool:
    """Whether its journal mode and its level of syncing go together."""
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    return bool(level >= DURABLE[mode])


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

    # Without a log nothing was recorded, and nothing has happened: it is there at once, and last of all.
    log.unlink(missing_ok=True)
    _record_databases(folder)
    begun = log.with_suffix(".begun")
    begun.unlink(missing_ok=True)
    _note(begun, {"names": _names(out)})
    for path in _files(out):
        _note(begun, {"file": path.stat().st_ino, "length": path.stat().st_size})
    replace(begun, log)
    os.fsync, os.replace = recorded_fsync, recorded_replace


def cut(folder: Path, chance: random.Random | None = None) -> None:
    """Lose what was not synced; with `chance`, only some of it, or not all in the same way."""
    if not _log_of(folder).exists():
        return
    names, lengths, careless = _durable(_log_of(folder))
    _lose_commits(folder, careless)
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


def _record_databases(folder: Path) -> None:
    """Keep the databases as they are, and note each that commits without a sync."""
    shutil.rmtree(folder / BEFORE, ignore_errors=True)
    (folder / BEFORE).mkdir()
    for path in folder.glob("*.db*"):
        shutil.copyfile(path, folder / BEFORE / path.name)
    commit, log = sqlite.commit, _log_of(folder)

    def recorded_commit(connection: sqlite3.Connection) -> None:
        durable = is_durable(connection)
        (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
        commit(connection)
        if not durable and Path(path).parent == folder:
            _note(log, {"careless": Path(path).name})

    sqlite.commit = recorded_commit


def _lose_commits(folder: Path, careless: set[str]) -> None:
    """Put a database, with its log or journal, back to what it was before the process."""
    for name in careless:
        for path in folder.glob(f"{name}*"):
            path.unlink()
        for path in (folder / BEFORE).glob(f"{name}*"):
            shutil.copyfile(path, folder / path.name)


def _lose_tail(path: Path, length: int, how: str) -> None:
    lost = path.stat().st_size - length
    if lost <= 0 or how == "kept":
        return
    os.truncate(path, length)
    if how == "zeros":
        with path.open("ab") as file:
            file.write(bytes(lost))


def _durable(log: Path) -> tuple[dict[str, int], dict[int, int], set[str]]:
    names: dict[str, int] = {}
    lengths: dict[int, int] = {}
    careless: set[str] = set()
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if "names" in event:
            names = event["names"]
        elif "careless" in event:
            careless.add(event["careless"])
        else:
            lengths[event["file"]] = event["length"]
    return names, lengths, careless


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
