"""Jobs whose items are processed by processes, two of which are deadly: one item always, one at its first call."""

from functools import partial
from pathlib import Path

from tests.crash.killers import calls, deadly, note

from batchwright import Job, Skip, Step
from batchwright.model.errors import WorkerDiedError
from batchwright.runners import Processes
from batchwright.writers import insert, text_file

ITEMS = 300

KILLER, INNOCENT = 150, 77

EXPECTED = [item for item in range(ITEMS) if item != KILLER]


def row(folder: Path, item: int) -> dict[str, int]:
    if item == INNOCENT and not calls(folder, INNOCENT):
        note(folder, INNOCENT)
        deadly(folder, {INNOCENT: "killed"}, item)
    return {"n": deadly(folder, {KILLER: "segfault"}, item)}


def line(folder: Path, item: int) -> str:
    return str(row(folder, item)["n"])


def tables(folder: Path) -> Job:
    return _job("tables", folder, partial(row, folder), insert(f"sqlite:///{folder}/rows.db", "rows"))


def files(folder: Path) -> Job:
    return _job("files", folder, partial(line, folder), text_file(folder / "rows.txt"))


def _job(name: str, folder: Path, process: partial[object], write: object) -> Job:
    folder.mkdir(exist_ok=True)
    options = {"skip": Skip(on=WorkerDiedError, limit=1), "runner": Processes(2), "chunk_size": 20}
    step = Step("step", read=range(ITEMS), process=process, write=write, checkpoint_seconds=0, **options)
    return Job(name, step)
