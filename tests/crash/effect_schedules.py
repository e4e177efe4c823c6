"""Calls to the outside, killed at every point and undone again: what the receivers saw against what is promised.

With `EFFECTS_LEDGER`, the address of a PostgreSQL database, the ledger is in a schema there, of its own each time.
The one rule: a receiver keeps its own books: every call in order, and what it looked like in the ledger when it came.
`python -m tests.crash.effect_schedules FOLDER BUG SEED` prints what is wrong; a schedule is a text: `run K25:3`.
"""

import os
import random
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count, groupby
from pathlib import Path
from typing import Any

from batchwright import DROP, Job, Status, Step, rollback, run
from batchwright.engine import compensate_lap
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.effect import Effect, EffectState
from batchwright.testing.crash_points import crash_after, crash_at
from batchwright.writers import effects
from batchwright.writers.effect_calls import EffectSink

EFFECT_POINTS = ("K24", "K25", "K26", "K27")

POINTS = (*EFFECT_POINTS, "K11", "K13", "K21", "K22")

ITEMS, CHUNK = 5, 2

STEPS = ("honoured", "asked", "counted")
"""A receiver that knows its keys; one that can be asked; one that can do neither."""

EXPECTED = [0, 100, 1, 101, 3, 103, 4, 104]
"""What every step calls for: two outputs an item, and the third item has none."""

RANDOM_SCHEDULES = 20

TABLES = """
CREATE TABLE calls (step TEXT, kind TEXT, key TEXT, output INTEGER, seen TEXT);
CREATE TABLE honoured (key TEXT PRIMARY KEY, output INTEGER);
"""


def billing(folder: Path) -> Job:
    """Three steps of calls, each of which can be undone."""
    return Job("billing", *(_step(folder, name) for name in STEPS), parameters={"month": 11})


def _step(folder: Path, name: str) -> Step[Any, Any]:
    def call(output: int, key: str) -> dict[str, int]:
        _note(folder, name, "call", key, output)
        return {"receipt": output}

    def ask(key: str) -> dict[str, int] | None:
        with closing(sqlite3.connect(folder / "receiver.db")) as books:
            query = "SELECT output FROM calls WHERE step = ? AND kind = 'call' AND key = ?"
            found = books.execute(query, (name, key)).fetchone()
        return {"receipt": found[0]} if found else None

    def undo(effect: Effect) -> None:
        _note(folder, name, "undo", effect.key, effect.output)

    options: dict[str, Any] = {"ask": ask} if name == "asked" else {"honours_key": name == "honoured"}
    write = effects(call, **options)
    return Step(name, read=range(ITEMS), process=_outputs, write=write, compensate=undo, chunk_size=CHUNK)


def _outputs(number: int) -> Iterator[Any]:
    yield from (DROP,) if number == 2 else (number, number + 100)


def _note(folder: Path, step: str, kind: str, key: str, output: int) -> None:
    seen = states_in(folder).get(key)
    with closing(sqlite3.connect(folder / "receiver.db", isolation_level=None)) as books:
        books.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?)", (step, kind, key, output, seen))
        if kind == "call":
            books.execute("INSERT OR IGNORE INTO honoured VALUES (?, ?)", (key, output))


def ledger_of(folder: Path) -> str | Path:
    """Where the ledger of this schedule is."""
    url = os.environ.get("EFFECTS_LEDGER")
    return folder / "ledger.db" if url is None else f"{url}?records_schema={folder.parent.name}_{folder.name}"


def states_in(folder: Path) -> dict[str, str]:
    """The state of each effect that the ledger knows."""
    place = ledger_of(folder)
    if isinstance(place, Path):
        with closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as ledger:
            return dict(ledger.execute("SELECT effect_key, state FROM batchwright_effects").fetchall())
    import psycopg

    url, _, schema = place.partition("?records_schema=")
    with psycopg.connect(url) as server:
        return dict(server.execute(f'SELECT effect_key, state FROM "{schema}".batchwright_effects').fetchall())


def schedules(seed: str) -> Iterator[str]:
    """Every point, the first times that it is reached and later ones, then twice in a row, then anywhere."""
    for what, points in (("run", POINTS[:2] + POINTS[4:]), ("rollback", POINTS[2:6])):
        yield from (f"{what} {point}:{hit}" for point in points for hit in (1, 2, 7, 12))
        yield from (f"{what} {point}:3 {point}:1 {other}:2" for point in points for other in points[:2])
    chance = random.Random(seed)
    for _ in range(RANDOM_SCHEDULES):
        what, kills = chance.choice(("run", "rollback")), chance.randint(1, 3)
        yield " ".join([what, *(f"line:{chance.randint(1, 6000)}" for _ in range(kills))])


def wrong_after(schedule: str, folder: Path, plant: Callable[[], None]) -> tuple[str, int]:
    """What is wrong after a schedule (nothing: an empty text), and how often it was killed."""
    what, *kills = schedule.split()
    with closing(sqlite3.connect(folder / "receiver.db")) as books:
        books.executescript(TABLES)
    if what == "rollback" and _child(lambda: _go("run", folder), plant) != 0:
        return "the run before the rollback failed", 0
    died = 0
    for kill in [*kills, ""]:
        ended = _child(lambda kill=kill: _go(what, folder, kill), plant)
        died += ended == -signal.SIGKILL
        if ended not in (0, -signal.SIGKILL):
            return f"ended with {ended} after {died} kills", died
    if not died and kills[0].startswith(EFFECT_POINTS):
        return "was not killed", 0
    return _wrong_books(folder, what, died), died


def _go(what: str, folder: Path, kill: str = "") -> int:
    job, ledger = billing(folder), ledger_of(folder)
    if kill:
        kind, number = kill.split(":")
        crash_after(int(number)) if kind == "line" else crash_at(kind, int(number))
    if what == "run":
        return int(not run(job, ledger=ledger).status.complete)
    return int(rollback(1, ledger=ledger, job=job).status is not Status.COMPENSATED)


def _wrong_books(folder: Path, what: str, kills: int) -> str:
    with closing(sqlite3.connect(folder / "receiver.db")) as books:
        noted = books.execute("SELECT step, kind, key, output, seen FROM calls ORDER BY rowid").fetchall()
        (known,) = books.execute("SELECT count(*) FROM honoured").fetchone()
    if known != len(STEPS) * len(EXPECTED):
        return f"{known} effects took place"
    kind = "call" if what == "run" else "undo"
    repeated = 0
    for step in STEPS:
        for each, order in (("call", EXPECTED), ("undo", EXPECTED[::-1] if kind == "undo" else [])):
            made = [list(group) for _, group in groupby(row[2:] for row in noted if row[:2] == (step, each))]
            came = [len(group) for group in made]
            if [group[0][1] for group in made] != order:
                return f"{step} {each}: {[group[0][1] for group in made]} instead of {order}"
            if each == "call" and step == "asked" and max(came) > 1:
                return f"{step}: called again although it could have been asked for"
            repeated += sum(came) - len(came)
            seen = {state for group in made for _, _, state in group}
            if seen - {"intent" if each == "call" else "compensating"}:
                return f"{step} {each}: was {seen} in the ledger when it came"
    if repeated > kills:
        return f"{repeated} came again after {kills} kills"
    return _wrong_log(folder, "done" if what == "run" else "compensated")


def _wrong_log(folder: Path, state: str) -> str:
    found = Counter(states_in(folder).values())
    return "" if found == {state: len(STEPS) * len(EXPECTED)} else f"the log says {dict(found)}"


def _child(work: Callable[[], int], plant: Callable[[], None]) -> int:
    """How a forked child ends that does this work. This process has one thread and no database open."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            plant()
            code = work()
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - that is how
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def intent_after_the_call() -> None:
    """What is about to be called is not said before it is."""
    save = EffectSink._save

    def late(self: Any, saved: list[Effect]) -> None:
        save(self, [effect for effect in saved if effect.state is not EffectState.INTENT])

    EffectSink._save = late  # type: ignore[method-assign, assignment] - that is what planting is


def receipts_at_the_end_of_the_chunk() -> None:
    """Receipts are kept in memory until the chunk is committed."""
    save, commit, kept = EffectSink._save, EffectSink.commit, list[Effect]()

    def later(self: Any, saved: list[Effect]) -> None:
        kept.extend(effect for effect in saved if effect.state is EffectState.DONE)
        save(self, [effect for effect in saved if effect.state is not EffectState.DONE])

    def at_last(self: Any, *arguments: Any) -> None:
        save(self, kept)
        kept.clear()
        commit(self, *arguments)

    EffectSink._save, EffectSink.commit = later, at_last  # type: ignore[method-assign, assignment] - as above


def compensation_without_intent() -> None:
    """What is about to be undone is not said before it is."""
    save = SqliteLedger.save_effects

    def careless(self: Any, key: Any, saved: Any) -> None:
        save(self, key, [effect for effect in saved if effect.state is not EffectState.COMPENSATING])

    SqliteLedger.save_effects = careless  # type: ignore[method-assign] - as above


def compensations_noted_at_the_end() -> None:
    """What is undone is noted when all of it is."""
    undo, save = compensate_lap._undo_step, SqliteLedger.save_effects

    def at_last(*arguments: Any) -> Any:
        kept: dict[Any, dict[str, Effect]] = {}

        def later(self: Any, key: Any, saved: Any) -> None:
            kept.setdefault((self, key), {}).update({e.key: e for e in saved if e.state is EffectState.COMPENSATED})
            save(self, key, [e for e in saved if e.state is not EffectState.COMPENSATED])

        SqliteLedger.save_effects = later  # type: ignore[method-assign] - as above
        ended = undo(*arguments)
        for (ledger, key), noted in kept.items():
            save(ledger, key, list(noted.values()))
        return ended

    compensate_lap._undo_step = at_last


BUGS: dict[str, Callable[[], None]] = {
    bug.__name__: bug
    for bug in (
        intent_after_the_call,
        receipts_at_the_end_of_the_chunk,
        compensation_without_intent,
        compensations_noted_at_the_end,
    )
}


def main(parent: Path, bug: str, seed: str, some: str = "", *, first_only: bool) -> None:
    """Print what is wrong, a line for each schedule, and how many there were; `some`: so many of them, by chance."""
    numbers, killed, chosen = count(), 0, list(schedules(seed))
    for schedule in random.Random(seed).sample(chosen, int(some)) if some else chosen:
        folder = parent / str(next(numbers))
        folder.mkdir()
        wrong, died = wrong_after(schedule, folder, BUGS.get(bug, lambda: None))
        killed += died
        if wrong:
            print(f"{schedule}: {wrong} (seed {seed})", flush=True)  # noqa: T201 - that is how
            if first_only:
                return
    print(f"schedules: {next(numbers)}, killed: {killed}")  # noqa: T201 - as above


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:], first_only=sys.argv[2] in BUGS)
