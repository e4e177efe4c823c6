"""A small shop of jobs, written into a temporary folder, and the program called on them."""

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchwright.cli import main

JOBS = '''
import os
import sys
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated
from uuid import UUID
from batchwright import Job, Secret, Skip, Step
from batchwright.writers import insert, upsert

HERE = Path(__file__).parent


class Mood(Enum):
    STRICT = "s"
    MILD = "m"


def check(row):
    if row["id"] % 10 == 7 and not (HERE / "mended").exists():
        raise ValueError(f"=row {row['id']} [red]\\x1b[31m is wrong")
    return row


def sales(day: Annotated[date, "the day to load"], n: int = 20, mood: Mood = Mood.MILD) -> Job:
    """Load the sales of a day."""
    print("building")
    rows = [{"id": number, "mood": mood.name} for number in range(n)]
    skip = Skip(on=ValueError) if mood is Mood.MILD else None
    target = upsert(f"sqlite:///{HERE}/shop.db", "sales", key="id")
    return Job("sales", Step("load", read=rows, process=check, write=target, chunk_size=5, skip=skip))


def again(n: int = 4) -> Job:
    rows = [{"id": number} for number in range(n)]
    return Job("again", Step("add", read=rows, write=insert(f"sqlite:///{HERE}/shop.db", "log"), chunk_size=2))


def fetch(token: Annotated[str, Secret], n: int = 1) -> Job:
    if token == "hunter2":
        raise ValueError(f"the token {token} is known to everybody")
    return Job("fetch", Step("load", read=range(n), write=print))


def signalled(signals: int = 1, name: str = "SIGINT") -> Job:
    """Sends signals to itself at its third item."""
    def send(row):
        import signal
        if row["id"] == 2:
            for _ in range(signals):
                os.kill(os.getpid(), signal.Signals[name])
        return row
    rows = [{"id": number} for number in range(20)]
    target = insert(f"sqlite:///{HERE}/shop.db", "signalled")
    return Job("signalled", Step("load", read=rows, process=send, write=target, chunk_size=5))


def waiting() -> Job:
    """Ends only when it is stopped; at its third item it sends SIGTERM, unless it has a time of its own."""
    import signal
    import time
    def wait(number):
        if number == 2 and "--timeout" not in sys.argv:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        return number
    return Job("waiting", Step("load", read=range(100_000), process=wait, write=lambda numbers: None))


def killed() -> Job:
    """Kills itself, once."""
    def die(row):
        import signal
        if row["id"] == 7 and not (HERE / "mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return row
    rows = [{"id": number} for number in range(10)]
    target = insert(f"sqlite:///{HERE}/shop.db", "killed")
    return Job("killed", Step("load", read=rows, process=die, write=target, chunk_size=5))


def priced(rate: Decimal, key: UUID) -> Job:
    def fail(row):
        if not (HERE / "mended").exists():
            raise ValueError("not yet")
        return row
    rows = [{"id": 0, "rate": str(rate), "key": str(key)}]
    assert (type(rate), type(key)) == (Decimal, UUID)
    target = upsert(f"sqlite:///{HERE}/shop.db", "priced", key="id")
    return Job("priced", Step("load", read=rows, process=fail, write=target, skip=Skip(on=ValueError)))


def generated() -> Job:
    """Items of a function, one of them with an error of many words."""
    def made():
        yield from range(4)
    def check_number(number):
        if number == 2:
            raise ValueError(f"no {number} " + "or so " * 50)
        return number
    step = Step("load", read=made, process=check_number, write=lambda numbers: None, skip=Skip(on=ValueError))
    return Job("generated", step)


def long(text: str) -> Job:
    return Job("long", Step("load", read=[len(text)], write=lambda numbers: None))


def taken(limit: int = 1) -> Job:
    return again(limit)


def untyped(x) -> Job:
    return again(x)
'''


@dataclass(frozen=True)
class Ended:
    """How a call of the program ended."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


class Shop:
    """The folder with the jobs."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "jobs.py").write_text(textwrap.dedent(JOBS))

    def call(self, *arguments: str) -> Ended:
        """In this process."""
        self._capsys.readouterr()
        try:
            code = main(list(arguments))
        finally:
            sys.modules.pop("jobs", None)
        return Ended(code, *self._capsys.readouterr())

    def mend(self) -> None:
        (self.folder / "mended").touch()

    def spawn(self, *arguments: str, environment: dict[str, str] | None = None, **settings) -> Ended:
        """In a process of its own, as a user calls it."""
        quiet = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
        ended = subprocess.run(
            [sys.executable, "-c", "import sys; from batchwright.cli import main; sys.exit(main())", *arguments],
            cwd=self.folder,
            env={**quiet, **(environment or {})},
            text=True,
            check=False,
            timeout=60,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings},
        )
        return Ended(ended.returncode, ended.stdout or "", ended.stderr or "")
