"""Where the ledger is, and the failure file beside it.

The one rule: the ledger's place follows the job's source file, so that a job started from two folders is one job.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from batchwright.databases.postgres import is_postgres
from batchwright.model.failure import Failure, failure_document

FOLDER = ".batchwright"
FILE = "ledger.db"
VARIABLE = "BATCHWRIGHT_LEDGER"
SCHEME = "sqlite:///"

_SECRET_OPTIONS = ("password", "sslpassword")


def ledger_place(source_file: Path | None, given: str | Path | None = None) -> Path | str:
    """The ledger's file, as `ledger_path` finds it, or the address of a PostgreSQL database, where one is named."""
    named = given or os.environ.get(VARIABLE)
    return str(named) if is_postgres(named) else ledger_path(source_file, given)


def ledger_path(source_file: Path | None, given: str | Path | None = None) -> Path:
    """The ledger's file: what is given, else BATCHWRIGHT_LEDGER, else the nearest `.batchwright/` upward from the
    job's source file, else one beside it; in a REPL or notebook, from the working directory. Creates nothing.
    """  # noqa: D205 - one sentence
    named = given or os.environ.get(VARIABLE)
    if named:
        path = Path(str(named).removeprefix(SCHEME)).expanduser()
        return (path / FILE if path.is_dir() or str(named).endswith("/") else path).absolute()
    return _nearest_folder(source_file) / FILE


def report_place(address: str, source_file: Path | None) -> Path:
    """Beside which path a ledger at this address has its failure files: itself, or, for a database, a folder of its own
    in the nearest `.batchwright/`.
    """  # noqa: D205 - one sentence
    if not is_postgres(address):
        return Path(address)
    name = f"postgresql-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
    return _nearest_folder(source_file) / name / FILE


def without_password(place: Path | str) -> str:
    """The ledger's place as it may be shown, in a form that `--ledger` takes."""
    if not is_postgres(place):
        return str(place)
    address, _, query = str(place).partition("?")
    scheme, rest = address.split("://", 1)
    login, at, server = rest.rpartition("@")
    kept = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] not in _SECRET_OPTIONS]
    return f"{scheme}://{login.partition(':')[0]}{at}{server}" + (f"?{urlencode(kept)}" if kept else "")


def _nearest_folder(source_file: Path | None) -> Path:
    # Code typed into a REPL or a notebook has a name like <stdin>, or a file in a folder of temporary cells.
    known = source_file is not None and source_file.is_file() and "ipykernel" not in str(source_file)
    start = source_file.resolve().parent if known and source_file is not None else Path.cwd()
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    return start / FOLDER


def report_failures(ledger: Path | None, run: int, job: str, failures: Iterator[Failure]) -> str:
    """Write `failures-<run>.jsonl` beside the ledger, whole or not at all, readable by its owner alone; its path.

    Without a durable ledger nothing is written, and the path is empty.
    """
    if ledger is None:
        return ""
    path = _report_file(ledger, run)
    # One name for the unfinished file: what a kill leaves behind, the next start writes over.
    unfinished = path.with_name(f".{path.name}")
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            for failure in failures:
                file.write(json.dumps({"job": job, **failure_document(run, failure)}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return str(path)


def forget_report(ledger: Path, run: int, job: str, *, pretend: bool = False) -> bool:
    """Remove the failure file of a run, if there is one and it is this job's: another ledger may be in the same folder.

    Whether there was one.
    """
    path = _report_file(ledger, run)
    try:
        with path.open(encoding="utf-8") as file:
            first = json.loads(file.readline())
    except (OSError, ValueError):
        return False
    if not isinstance(first, dict) or (first.get("job"), first.get("run")) != (job, run):
        return False
    if not pretend:
        path.unlink()
    return True


def _report_file(ledger: Path, run: int) -> Path:
    return ledger.parent / f"failures-{run}.jsonl"
