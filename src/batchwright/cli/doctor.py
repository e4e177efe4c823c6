"""`batchwright doctor`: the installation and the ledger, checked. Writes nothing."""

import importlib.metadata
import os
import platform
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from batchwright.cli.documents import document
from batchwright.cli.shared_options import json_option, ledger_option
from batchwright.cli.streams import say_error, write_json
from batchwright.cli.tables import write_table
from batchwright.model.errors import BatchwrightError
from batchwright.model.version import VERSION
from batchwright.places import without_password

OLDEST_SQLITE = (3, 35, 0)
DEVELOPERS = "dev"
"""The extra that only those who work on batchwright itself need."""

SERIALIZED = 3
"""What `sqlite3.threadsafety` says of a library that any thread may use."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact, and what to do about it if it is wrong."""

    name: str
    value: Any
    mend: str = ""


@click.command("doctor")
@json_option
@ledger_option
def doctor_command(as_json: bool, ledger: Path | str | None) -> int:
    """Check the installation and the ledger. Exits with 1 if something has to be mended."""
    findings = [*_versions(), *_sqlite(), *_extras(), *_ledger(ledger)]
    healthy = not any(finding.mend for finding in findings)
    if as_json:
        facts = {finding.name: finding.value for finding in findings}
        problems = [f"{finding.name}: {finding.mend}" for finding in findings if finding.mend]
        write_json(document(healthy=healthy, facts=facts, problems=problems))
    else:
        write_table(
            ("", "fact", "value"), [(_mark(finding), finding.name, _shown(finding.value)) for finding in findings]
        )
    for finding in findings:
        if finding.mend:
            say_error(f"{finding.name}: {_shown(finding.value)}; {finding.mend}")
    return 0 if healthy else 1


def _mark(finding: Finding) -> str:
    return "!!" if finding.mend else "ok"


def _shown(value: object) -> str:
    return (
        {True: "yes", False: "no", None: "-"}.get(value, str(value)) if isinstance(value, bool | None) else str(value)
    )


def _versions() -> Iterator[Finding]:
    yield Finding("batchwright", VERSION)
    yield Finding("python", f"{platform.python_version()} ({platform.python_implementation()})")
    yield Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    for package in ("click", "rich", "psutil"):
        yield Finding(package, importlib.metadata.version(package))


def _sqlite() -> Iterator[Finding]:
    old = "" if sqlite3.sqlite_version_info >= OLDEST_SQLITE else "use a Python with SQLite 3.35 or newer"
    yield Finding("sqlite", sqlite3.sqlite_version, old)
    safe = sqlite3.threadsafety == SERIALIZED
    yield Finding("sqlite is threadsafe", safe, "" if safe else "use a Python whose SQLite is built threadsafe")


def _extras() -> Iterator[Finding]:
    """The extras for users that the installed package declares, and whether all that each asks for is there."""
    metadata = importlib.metadata.metadata("batchwright")
    requirements = metadata.get_all("Requires-Dist") or []
    for extra in metadata.get_all("Provides-Extra") or []:
        if extra == DEVELOPERS:
            continue
        wanted = [text for text in requirements if re.search(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]", text)]
        missing = [name for name in map(_distribution, wanted) if not _is_installed(name)]
        yield Finding(f"extra {extra}", f"not installed: {', '.join(missing)}" if missing else "installed")


def _distribution(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return found[0] if found else requirement


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _ledger(given: Path | str | None) -> Iterator[Finding]:
    from batchwright.launch import ledger_place, open_history

    place = ledger_place(None, given)
    yield Finding("ledger", without_password(place))
    try:
        exists = place.exists() if isinstance(place, Path) else _ledger_exists(place)
        yield Finding("ledger exists", exists)
        if not exists:
            return
        yield Finding("known to the ledger alone", "what was called outside: keep its folder whole, and back it up")
        if isinstance(place, Path):
            writable = os.access(place, os.W_OK)
            yield Finding("ledger is writable", writable, "" if writable else "change its owner or its mode")
        history = open_history(place)
    except BatchwrightError as error:
        yield Finding("ledger opens", value=False, mend=str(error))
        return
    try:
        facts = {name: value for name, value in history.summary().items() if name != "path"}
        for name, value in facts.items():
            yield Finding(f"ledger {name.replace('_', ' ')}", value, _mend_of(name, value))
    finally:
        history.close()


def _ledger_exists(url: str) -> bool:
    from batchwright.ledgers.postgres_history import ledger_exists

    return ledger_exists(url)


def _mend_of(name: str, value: object) -> str:
    if name == "integrity" and value != "ok":
        return "it is damaged: restore it from a backup, or move it away and start anew"
    if name == "durability" and value != "ok":
        return "switch those settings on again"
    return ""
