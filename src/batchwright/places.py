"""Where the ledger is, and the failure file beside it.

The one rule: the ledger's place follows the job's source file, so that a job started from two folders is one job.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from batchwright.model.failure import Failure, failure_document

FOLDER = ".batchwright"
FILE = "ledger.db"
VARIABLE = "BATCHWRIGHT_LEDGER"
SCHEME = "sqlite:///"


def ledger_path(source_file: Path | None, given: str | Path | None = None) -> Path:
    """The ledger's file: what is given, else BATCHWRIGHT_LEDGER, else the nearest `.batchwright/` upward from the
    job's source file, else one beside it; in a REPL or notebook, from the working directory. Creates nothing.
    """  # noqa: D205 - one sentence
    named = given or os.environ.get(VARIABLE)
    if named:
        path = Path(str(named).removeprefix(SCHEME)).expanduser()
        return (path / FILE if path.is_dir() or str(named).endswith("/") else path).absolute()
    # Code typed into a REPL or a notebook has a name like <stdin>, or a file in a folder of temporary cells.
    known = source_file is not None and source_file.is_file() and "ipykernel" not in str(source_file)
    start = source_file.resolve().parent if known and source_file is not None else Path.cwd()
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER / FILE
    return start / FOLDER / FILE


def report_failures(ledger: Path | None, run: int, job: str, failures: Iterator[Failure]) -> str:
    """Write `failures-<run>.jsonl` beside the ledger, whole or not at all, readable by its owner alone; its path.

    Without a durable ledger nothing is written, and the path is empty.
    """
    if ledger is None:
        return ""
    path = ledger.parent / f"failures-{run}.jsonl"
    # One name for the unfinished file: what a kill leaves behind, the next start writes over.
    unfinished = path.with_name(f".{path.name}")
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
