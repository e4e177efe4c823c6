"""Schedules: which job is killed where, again and again, and what lies between two starts.

The one rule: a schedule is a text (`tables K9:3 line:120 new-ledger`), so that a message can name it and replay it.
"""

import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import batchwright
from batchwright.model.fault_points import FAULT_POINTS
from batchwright.testing.crash_points import crash_after, crash_at

FRESH, EAGER, POWER = "new-ledger", "eager-notes", "power-cut"
"""Start again with an empty ledger; copy to the ledger at every chunk; lose what was not synced."""

DEEPEST = 3

_PACKAGE = f"{Path(batchwright.__file__).parent}{os.sep}"


@dataclass(frozen=True)
class Schedule:
    """A job, the kills of one start after another, and circumstances."""

    job: str
    kills: tuple[str, ...]
    circumstances: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        return " ".join((self.job, *self.kills, *sorted(self.circumstances)))


@dataclass(frozen=True)
class Life:
    """What an uninterrupted run of a job passes through."""

    hits: Mapping[str, int]
    lines: int
    seconds: float


def parse(text: str) -> Schedule:
    """A schedule from its text."""
    job, *words = text.split()
    return Schedule(job, tuple(word for word in words if ":" in word), frozenset(w for w in words if ":" not in w))


def arm(kill: str) -> None:
    """Let this process die as a schedule says; `seconds:…` is for whoever has started it."""
    kind, number = kill.split(":")
    if kind == "line":
        crash_after(int(number))
    elif kind != "seconds":
        crash_at(kind, int(number))


def seconds_of(kill: str) -> float | None:
    """When the process that is to die must be killed from outside."""
    kind, number = kill.split(":")
    return float(number) if kind == "seconds" else None


def at_every_point(job: str, life: Life, *circumstances: str) -> list[Schedule]:
    """Kill once: at each point that the job reaches, the first times, half-way and at last."""
    return [
        Schedule(job, (f"{point}:{hit}",), frozenset(circumstances))
        for point, hits in life.hits.items()
        for hit in sorted({1, min(2, hits), (hits + 1) // 2, hits})
    ]


def nested(job: str, life: Life) -> list[Schedule]:
    """Kill half-way, then at each point of the recovery, then at each point of the recovery from that."""
    points = list(life.hits)
    return [
        Schedule(job, (f"{first}:{(life.hits[first] + 1) // 2}", f"{second}:1", f"{third}:{1 + index % 2}"))
        for index, (first, second, third) in enumerate(
            (points[(place * 7 + 3) % len(points)], point, points[(place * 5 + 1) % len(points)])
            for place, point in enumerate(points)
        )
    ]


def at_random(seed: int, number: int, lives: Mapping[str, Life]) -> Schedule:
    """The schedule of this number in the sweep of this seed. Its first kill is one that surely comes."""
    chance = random.Random(f"{seed}:{number}")
    job = chance.choice(sorted(lives))
    life = lives[job]
    kills = [_first(chance, life)]
    while len(kills) < DEEPEST and chance.random() < 0.4:
        kills.append(_later(chance, life))
    circumstances = {EAGER} if chance.random() < 0.3 else set()
    if job != "calls" and chance.random() < 0.2:
        circumstances.add(FRESH)
    if job in ("files", "tables") and chance.random() < 0.5:
        circumstances.add(POWER)
    return Schedule(job, tuple(kills), frozenset(circumstances))


def _first(chance: random.Random, life: Life) -> str:
    kind = chance.choice(("point", "point", "line", "line", "seconds"))
    if kind == "line":
        return f"line:{chance.randint(1, life.lines * 8 // 10)}"
    if kind == "seconds":
        return f"seconds:{life.seconds * chance.uniform(0.02, 0.8):.5f}"
    point = chance.choice(sorted(life.hits))
    return f"{point}:{chance.randint(1, life.hits[point])}"


def _later(chance: random.Random, life: Life) -> str:
    if chance.random() < 0.5:
        return f"line:{chance.randint(1, life.lines // 2)}"
    return f"{chance.choice(FAULT_POINTS)}:{chance.randint(1, 4)}"


def count_lines(run: Callable[[], Any]) -> int:
    """How many lines of batchwright's code a call executes, as `crash_after` counts them."""
    lines = count()

    def inside(_: FrameType, event: str, __: Any) -> Any:
        if event == "line":
            next(lines)
        return inside

    sys.settrace(lambda frame, _, __: inside if frame.f_code.co_filename.startswith(_PACKAGE) else None)
    run()
    sys.settrace(None)
    return next(lines)
