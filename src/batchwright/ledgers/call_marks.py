"""Marks of runs that call outside, each in a small file beside a ledger in a file.

The one rule: the file is named after the ledger's, so that two ledgers in a folder do not speak for each other.
"""

import json
import os
from datetime import datetime
from pathlib import Path

from batchwright.ledgers.locks import lock_folder
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import LedgerError
from batchwright.model.execution import JobExecution
from batchwright.model.folder import sync_folder
from batchwright.ports.call_marks import CallMark


def leave_mark(ledger: Path, run: JobExecution) -> None:
    """Leave a mark of this run beside its ledger, durably."""
    file = _file(ledger, run.key)
    part = file.with_suffix(".part")
    told = {"job": run.job, "lap": run.lap, "started_at": run.started_at.isoformat()}
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(told, stream)
            stream.flush()
            os.fsync(descriptor)
        part.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise LedgerError(
            f"no mark can be left beside the ledger {ledger}",
            error.strerror or str(error),
            "mend that, or name another ledger with --ledger PATH or BATCHWRIGHT_LEDGER",
        ) from error


def find_mark(ledger: Path, key: InstanceKey) -> CallMark | None:
    """The mark of an instance beside a ledger, which may be gone itself; None if there is none that can be read."""
    try:
        told = json.loads(_file(ledger, key).read_text("utf-8"))
        return CallMark(int(told["lap"]), datetime.fromisoformat(told["started_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _file(ledger: Path, key: InstanceKey) -> Path:
    return lock_folder(ledger) / f"{key.digest}.{ledger.name}.calls"
