"""Functions that take their process with them, and others that are hard on it; worker processes load this file.

The one rule: what a function does depends on its item, and on how often it was called with it, which a folder knows.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

KINDS = ("exit", "segfault", "killed", "hang", "memory")

HANG_SECONDS = 1_000.0


def calls(folder: Path, item: int) -> int:
    """How often the functions below were called with this item, as far as they note it."""
    try:
        return (folder / f"calls-{item}").stat().st_size
    except FileNotFoundError:
        return 0


def note(folder: Path, item: int) -> int:
    with (folder / f"calls-{item}").open("a") as file:
        file.write(".")
    return calls(folder, item)


def die(kind: str) -> None:
    if kind == "exit":
        os._exit(3)
    elif kind == "segfault":
        ctypes.string_at(0)
    elif kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hang":
        time.sleep(HANG_SECONDS)
    elif kind == "memory":
        bytearray(1 << 40)


def deadly(folder: Path, killers: dict[int, str], item: int) -> int:
    """Each killer among the items dies each time."""
    if item in killers:
        note(folder, item)
        die(killers[item])
    return item


def deadly_at_first(folder: Path, killers: dict[int, int], item: int) -> int:
    """Each killer dies so many times, and then no more."""
    if item in killers and note(folder, item) <= killers[item]:
        die("exit")
    return item


class HardError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class LyingError(Exception):
    """Says that it is something else."""

    def __reduce__(self) -> Any:
        return dict, ()

    def __repr__(self) -> str:
        raise ValueError("no description")


class MuteError(Exception):
    """Has no message, cannot be pickled, and has a large argument."""

    def __init__(self) -> None:
        super().__init__(lambda: None, "x" * 10_000_000)

    def __str__(self) -> str:
        raise ValueError("no message")


ERRORS = (HardError("one", "two"), LyingError("a lie"), MuteError(), ValueError("y" * 1_000_000))


def hard(item: int) -> Any:
    """Errors and results that do not go through a pipe."""
    if item < len(ERRORS):
        raise ERRORS[item]
    return (lambda: None) if item == 7 else item


def same(item: Any) -> Any:
    return item


def prints(item: int) -> int:
    print(f"item {item}")  # noqa: T201 - what is printed is looked at
    return item


def process_of(item: int) -> tuple[int, int]:
    return item, os.getpid()


def parent_of(folder: Path, item: int) -> tuple[int, int]:
    note(folder, 0)
    return item, os.getppid()


def shrugs(item: int) -> int:
    """Asked to end like everything in its terminal, it goes on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    return item


def lingers(folder: Path, item: int) -> int:
    """Leaves word of its process, and of one that it has started; then it takes for ever."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], stdout=subprocess.DEVNULL)
    (folder / f"pids-{item}.new").write_text(f"{os.getpid()} {os.getppid()} {other.pid}")
    (folder / f"pids-{item}.new").rename(folder / f"pids-{item}")
    time.sleep(HANG_SECONDS)
    return item
