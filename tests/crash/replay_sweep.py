"""Replays that are killed: `python -m tests.crash.replay_sweep FOLDER COUNT SEED BUG`; `-` for none. Prints a report.

The one rule: after each kill somebody looks, a run or a replay, and then file and failures, rows and failures agree;
in the end every item is in, in tables and files once.
"""

import json
import random
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.crash.fork_server import in_child
from tests.crash.jobs import append_to

from batchwright import Job, Skip, Step, each, replay, run
from batchwright.engine import replay_failures
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.model.failure import FailureState
from batchwright.testing.crash_points import crash_after, crash_at
from batchwright.writers import amended_files, csv_file, insert, text_file
from batchwright.writers import sqlite as sql

ITEMS, CHUNK = 24, 3
FILES = ("lines.txt", "rows.csv")
POINTS = ("K7", "K8", "K9", "K11", "K13", "K14", "K15", "K16")
OF_FILES = ("K14", "K15", "K16")
"""Passed once a file, where the others are passed for each chunk."""

LINES = 6_000
KILLED = -9


def mended(folder: Path) -> Job:
    """Half of the items fail until the cause is mended; into a table without a key, two files, and a function."""
    process = _process(folder)

    def step(name: str, write: Any, to: Callable[[int], Any]) -> Step[Any, Any]:
        return Step(
            name,
            read=range(ITEMS),
            process=lambda item: to(process(item)),
            write=write,
            chunk_size=CHUNK,
            skip=Skip(),
            after=(),
            checkpoint_seconds=0,
        )

    return Job(
        "mended",
        step("table", insert(f"sqlite:///{folder}/t.db", "t"), lambda item: {"x": item}),
        step("lines", text_file(folder / "lines.txt"), str),
        step("rows", csv_file(folder / "rows.csv"), lambda item: {"x": item}),
        step("calls", each(append_to(folder / "calls.txt")), lambda item: {"id": item}),
        parameters={"day": 1},
    )


def _process(folder: Path) -> Callable[[int], int]:
    def process(item: int) -> int:
        if item % 2 and not (folder / "mended").exists():
            raise ValueError(f"no {item}")
        return item

    return process


def closed_before_the_row() -> None:
    """Failures are closed when their items are taken up, and what they become is written after that."""
    sink = replay_failures._SettlingSink
    begin = sink.begin

    def closing_begin(self: Any, batch: Sequence[Any]) -> None:
        begin(self, batch)
        ordinals = [failure.ordinal for failure in batch]
        if self.transactional:
            self.sink.settle(ordinals)
        self.ledger.settle_failures(self.key, ordinals)

    settle = sql.SqlSink.settle

    def only_commit(self: Any, ordinals: Sequence[int], *state: Any) -> None:
        settle(self, ordinals if self._connection is None or not self._connection.in_transaction else (), *state)

    sink.begin = closing_begin  # type: ignore[method-assign] # a bug is planted
    sql.SqlSink.settle = only_commit  # type: ignore[method-assign] # a bug is planted


def published_before_the_marks() -> None:
    """The file is published anew, and only then is it written down which failures that closes."""

    def careless(stage: Any, scope: Any, amended: Any) -> Any:
        kept = {name: value for name, value in amended.state.items() if name not in ("before", "closes")}
        published = amended_files.replace(amended, state={**kept, "phase": "published"})
        stage.replace_target()
        scope.store.save_checkpoint(scope.key, published, ())
        amended_files.reach("K15")
        scope.store.settle_failures(scope.key, amended.state["closes"])
        stage.close()
        return published

    amended_files.end_amending = careless


BUGS = {bug.__name__: bug for bug in (closed_before_the_row, published_before_the_marks)}


def sweep(root: Path, count: int, seed: str, bug: str) -> dict[str, Any]:
    """Kill replays, each schedule in a folder of its own, and look at what is left."""
    start = root / "start"
    start.mkdir()
    in_child(lambda: _run(start), start, None)
    (start / "mended").touch()
    report: dict[str, Any] = {"schedules": 0, "kills": 0, "problems": []}
    for number in range(count):
        chance = random.Random(f"{seed}:{number}")
        folder = root / str(number)
        shutil.copytree(start, folder)
        _moved(start, folder)
        problems = _schedule(folder, chance, bug, report)
        report["schedules"] += 1
        report["problems"] += [f"schedule {seed}:{number}: {problem}" for problem in problems]
        shutil.rmtree(folder)
        if problems and bug != "-":
            break
    return report


def _run(folder: Path) -> int:
    run(mended(folder), ledger=folder / "ledger.db")
    return 0


def _moved(start: Path, folder: Path) -> None:
    """A copy stands elsewhere: the addresses in its ledger follow, as if it had been made there."""
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        connection.execute(
            "UPDATE batchwright_step_executions SET target = replace(target, ?, ?)", (str(start), str(folder))
        )
        connection.commit()


def _schedule(folder: Path, chance: random.Random, bug: str, report: dict[str, Any]) -> list[str]:
    kills = 0
    for _ in range(chance.randint(1, 3)):
        kill = _kill(chance)
        ended = in_child(lambda kill=kill: _replay(folder, bug, kill), folder, None)  # type: ignore[misc] # bound now
        kills += ended == KILLED
        looks = chance.random() < 0.5
        if looks:
            in_child(lambda: _run(folder), folder, None)
        if problems := _disagreements(folder, looked=looks or ended != KILLED):
            return [f"after {kill}: {problem}" for problem in problems]
    report["kills"] += kills
    ended = in_child(lambda: _replay(folder, bug, None), folder, None)
    wrong = [f"the last replay ended with {ended}: {(folder / 'log.txt').read_text()[-2000:]}"] if ended else []
    return wrong + _disagreements(folder, looked=True) + _incomplete(folder, kills)


def _kill(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return f"line:{chance.randint(1, LINES)}"
    point = chance.choice(POINTS)
    return f"{point}:{chance.randint(1, 2 if point in OF_FILES else 8)}"


def _replay(folder: Path, bug: str, kill: str | None) -> int:
    if bug != "-":
        BUGS[bug]()
    if kill is not None:
        kind, number = kill.split(":")
        (crash_after if kind == "line" else lambda at: crash_at(kind, at))(int(number))
    return 0 if replay(1, ledger=folder / "ledger.db", job=mended(folder)).still_open == 0 else 3


def _states(folder: Path) -> dict[str, set[int]]:
    """The items of each step whose failures are closed."""
    closed: dict[str, set[int]] = {name: set() for name in ("table", "lines", "rows", "calls")}
    with closing(SqliteHistory(folder / "ledger.db")) as history:
        for failure in history.failures(1):
            if failure.state is FailureState.REPLAYED:
                closed[failure.step].add(failure.ordinal)
    return closed


def _written(folder: Path) -> dict[str, Counter[int]]:
    with closing(sqlite3.connect(folder / "t.db")) as connection:
        rows = Counter(row[0] for row in connection.execute("SELECT x FROM t"))
    return {
        "table": rows,
        "lines": Counter(map(int, (folder / "lines.txt").read_text().split())),
        "rows": Counter(map(int, (folder / "rows.csv").read_text().removeprefix("x\n").split())),
        "calls": Counter(map(int, (folder / "calls.txt").read_text().split())),
    }


def _disagreements(folder: Path, *, looked: bool) -> list[str]:
    """What is closed and not in, or, in files that somebody has looked at since, in and not closed."""
    closed, written = _states(folder), _written(folder)
    wrong = [
        f"{name}: closed and not in: {closed[name] - set(written[name])}"
        for name in closed
        if closed[name] - set(written[name])
    ]
    for name in ("lines", "rows"):
        ahead = {item for item in written[name] if item % 2} - closed[name]
        wrong += [f"{name}: in and not closed: {ahead}"] if ahead and looked else []
    return wrong


def _incomplete(folder: Path, kills: int) -> list[str]:
    wrong = []
    for name, found in _written(folder).items():
        if lost := set(range(ITEMS)) - set(found):
            wrong.append(f"{name}: lost {lost}")
        twice = sum(found.values()) - len(found)
        if twice > (kills * CHUNK if name == "calls" else 0):
            wrong.append(f"{name}: {twice} twice, in {kills} kills")
    leftovers = [path.name for path in folder.glob(".*.stage")]
    return [*wrong, *(f"left behind: {name}" for name in leftovers)]


if __name__ == "__main__":
    folder, count, seed, bug = sys.argv[1:]
    print(json.dumps(sweep(Path(folder), int(count), seed, bug)))  # noqa: T201 - this is how it answers
