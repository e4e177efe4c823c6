"""A run in FOLDER that is killed each time that it has noted a death: `python -m tests.crash.killed_at_notes FOLDER`.

With `forgetful` behind it, the ledger does not give back what was noted.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path

from tests.crash.killers import deadly

from batchwright import Retry, Skip, Step, run
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.errors import WorkerDiedError
from batchwright.runners import Processes
from batchwright.writers import insert

ITEMS, KILLERS = 60, {17: "segfault"}

ATTEMPTS = 2

NOTE_DEATH = SqliteLedger.note_death


def row(folder: Path, item: int) -> dict[str, int]:
    return {"n": deadly(folder, KILLERS, item)}


def note_and_die(*noted: object) -> None:
    NOTE_DEATH(*noted)  # type: ignore[arg-type] # whatever it is
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path) -> None:
    SqliteLedger.note_death = note_and_die  # type: ignore[assignment] # see there
    if sys.argv[2:] == ["forgetful"]:
        SqliteLedger.load_deaths = lambda *_: {}  # type: ignore[assignment,method-assign,misc] # planted
    step = Step(
        "step",
        read=range(ITEMS),
        process=partial(row, folder),
        write=insert(f"sqlite:///{folder}/rows.db", "rows"),
        chunk_size=10,
        skip=Skip(on=WorkerDiedError, limit=2),
        retry=Retry(on=WorkerDiedError, attempts=ATTEMPTS, delay_seconds=0.01),
        runner=Processes(2),
    )
    run(step, ledger=folder / "ledger.db", check=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
