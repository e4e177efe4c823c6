"""What a job has left behind, and how it differs from what an uninterrupted run leaves.

The one rule: everything is compared: rows as multisets, files byte for byte, failures, counts, marks, leftovers.
"""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.crash.jobs import CHUNK, ITEMS, JOBS

from batchwright import Job, Status, run
from batchwright.ledgers.locks import is_held
from batchwright.ledgers.sqlite_history import SqliteHistory
from batchwright.model.errors import GroundChangedError

COUNTS = ("read", "written", "filtered", "failed_read", "failed_process", "failed_write", "outputs", "retried")

MENTIONED = 5


@dataclass(frozen=True)
class Difference:
    """How an outcome differs: what is missing of what was expected, and what is there beyond it."""

    lost: Counter[str]
    twice: Counter[str]

    def __str__(self) -> str:
        return "\n".join(
            f"    {word} {times} times {text}"
            for word, found in (("lost", self.lost), ("too many", self.twice))
            for text, times in found.most_common(MENTIONED)
        )

    def __bool__(self) -> bool:
        return bool(self.lost or self.twice)


def ledger_of(folder: Path) -> Path:
    """The newest ledger in a folder: a schedule may have taken others away."""
    return folder / "ledger" / "ledger.db"


def outcome_of(name: str, folder: Path) -> Counter[str]:
    """Every fact about a finished job, each as a text."""
    job = Job.of(JOBS[name], folder=folder)
    facts: Counter[str] = Counter()
    for part in (rows_in, files_in, checkpoints_in, lambda where: ledger_facts(job, where)):
        facts.update(text.replace(str(folder), "…") for text in part(folder))
    return facts


def rows_in(folder: Path) -> Iterator[str]:
    """Every row of every table of every database that is not ours."""
    for path in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(path)) as connection:
            (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
            yield f"{path.name} is {sound}"
            names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in names:
                if table.startswith("_batchwright"):
                    yield f"left over: {table}"
                if not table.startswith(("batchwright", "sqlite")):
                    yield from (f"{table} {row}" for row in connection.execute(f"SELECT * FROM {table}"))


def files_in(folder: Path) -> Iterator[str]:
    """Every line of every file that was written, and every name of a file, so that leftovers show."""
    for path in sorted((*(folder / "out").rglob("*"), *(folder / "sets").rglob("*"))):
        name = f"{path.parent.name}/{path.name}"
        if ".replaced" in name:
            continue  # a set that was replaced stays until the next run writes: how often that was is chance here
        yield f"file {name}"
        lines = path.read_bytes().splitlines(True) if path.is_file() else []
        yield from (f"{name} {number} {line!r}" for number, line in enumerate(lines))
    yield from (f"left over: {path.name}" for path in (*folder.rglob("*.stage"), *folder.rglob("*.files")))


def checkpoints_in(folder: Path) -> Iterator[str]:
    """Every checkpoint and failure that a target or the ledger keeps under the name of a step."""
    counts = ", ".join(COUNTS)
    for path in (*sorted(folder.glob("*.db")), ledger_of(folder)):
        with closing(sqlite3.connect(path)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'batchwright_checkpoints'").fetchone():
                continue
            # That a step is in partitions is noted in the ledger when it is planned: a later ledger does not hold it.
            plain = "WHERE state NOT LIKE '%\"partitions\"%'" if path == ledger_of(folder) else ""
            for row in connection.execute(
                f"SELECT step, lap, finished, ordinal, {counts} FROM batchwright_checkpoints {plain}"
            ):
                yield f"checkpoint in {path.name} {row}"
            failures = "SELECT step, ordinal, phase, error_type, error, attempts, line, byte, payload, state"
            for row in connection.execute(f"{failures} FROM batchwright_failures"):
                yield f"failure in {path.name} {row}"


def ledger_facts(job: Job, folder: Path) -> Iterator[str]:
    """What people are told: status and counts of every step, the failures, and the file of failures."""
    path = ledger_of(folder)
    yield f"lock held: {is_held(path.parent / 'locks', job.key)}"
    with closing(SqliteHistory(path)) as history:
        runs = history.runs(job=job.name, limit=1000)
        yield f"status {runs[0].status} lap {runs[0].lap}"
        live = [run for run in runs if run.status.live or run.status is Status.LOST]
        yield f"runs still open: {len(live)}"
        for step in history.steps(runs[0].id):
            yield f"step {step.key.step} {step.status} {[getattr(step.counts, name) for name in COUNTS]}"
            yield f"step {step.key.step} balances: {step.counts.balanced}"
        failures = list(history.failures(runs[0].id))
        yield from (f"told {failure.step} {failure.ordinal} {failure.error}" for failure in failures)
        reported = path.parent / f"failures-{runs[0].id}.jsonl"
        lines = reported.read_text().count("\n") if reported.is_file() else None
        yield f"failure file complete: {lines == (len(failures) or None)}"


def difference(found: Counter[str], expected: Counter[str]) -> Difference:
    """What is lost and what is there twice."""
    return Difference(expected - found, found - expected)


def seen_in_part(folder: Path, expected: Counter[str]) -> list[str]:
    """The tables of these jobs that hold some of their rows and not all, at a moment between two starts."""
    found = Counter(rows_in(folder))
    problems = []
    for table in ("sales", "latest", "once", "moves", "whole_orders", "whole_lines"):
        seen, whole = (
            Counter({t: n for t, n in facts.items() if t.startswith(f"{table} (")}) for facts in (found, expected)
        )
        if seen and seen != whole:
            problems.append(f"{table}: a reader sees {seen.total()} rows of {whole.total()}")
    if any(text.startswith("whole_orders (") for text in found) != any("whole_lines (" in text for text in found):
        problems.append("a reader sees one of two tables that are published together")
    return problems


def sets_seen_in_part(folder: Path) -> list[str]:
    """The file sets of `sets` that are not what their manifests say, at a moment between two starts."""
    problems = []
    for path in (folder / "sets").glob("[!.]*"):
        found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}
        whole = found.pop("manifest.json", None) is not None
        files = json.loads((path / "manifest.json").read_bytes())["files"] if whole else []
        said = {entry["name"]: entry["sha256"] for entry in files}
        if said != found or not whole:
            problems.append(f"{path.name}: a reader sees {sorted(found)} of {sorted(said)}")
    if not (folder / "sets" / "old").exists():
        problems.append("a reader sees no set where there has always been one")
    return problems


def wrong_rows(folder: Path) -> list[str]:
    """What is wrong in the tables of `tables`, in words of its own: a refused row has left a trace, or a good one none.

    That it is the same without a kill says nothing about this.
    """
    sold = [number for number, amount in _amounts(folder) if amount != 13 and amount <= 900]
    renamed = [number for number in range(ITEMS) if number % 7 != 3]
    newest = [max(number for number in renamed if number % 3 == code) for code in range(3)]
    expected = {
        ("shop.db", "SELECT id FROM sales"): sold,
        ("shop.db", "SELECT id FROM audit"): sold,
        ("family.db", "SELECT parent FROM renamed"): renamed,
        ("family.db", "SELECT id FROM parents ORDER BY code"): newest,
        ("family.db", "SELECT parent FROM children ORDER BY parent % 3"): newest,
    }
    return [
        f"{query}: {found} instead of {numbers}"
        for (name, query), numbers in expected.items()
        if (found := _numbers(folder / name, query)) != numbers
    ]


def _numbers(path: Path, query: str) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(query)]


def wrong_calls(folder: Path, kills: int) -> list[str]:
    """What is wrong with what functions got, which may get the chunk in flight again, and only that one."""
    chunk_of = {sale: ordinal // CHUNK for ordinal, sale in sales_by_ordinal(folder)}
    return [
        f"{name}: {text}"
        for name in ("append.txt", "each.txt")
        if (text := _wrong_sequence(folder / name, list(chunk_of), chunk_of, kills))
    ]


def sales_by_ordinal(folder: Path) -> Iterator[tuple[int, int]]:
    """The place in the input and the id of each sale that has an output: here they are the same number."""
    return ((number, number) for number, _ in _amounts(folder))


def _amounts(folder: Path) -> Iterator[tuple[int, int]]:
    """The id and the amount of each sale that has an output."""
    for line in (folder / "sales.csv").read_text().splitlines()[1:]:
        fields = line.split(",")
        if len(fields) == 3 and is_written(dict(zip(("id", "shop", "amount"), fields, strict=True))):
            yield int(fields[0]), int(fields[2])


def is_written(row: dict[str, str]) -> bool:
    """Whether a sale has an output, in words of its own: see `to_sale`."""
    return int(row["id"]) % 8 != 7 and int(row["amount"]) >= 0


def _wrong_sequence(path: Path, expected: list[int], chunk_of: dict[int, int], kills: int) -> str:
    found = [int(line) for line in path.read_text().splitlines()]
    if list(dict.fromkeys(found)) != expected:
        return f"lost or out of order: {sorted(set(expected) - set(found))}"
    repeats = 0
    for before, sale in pairwise(found):
        if sale <= before:
            repeats += 1
            if chunk_of[sale] < chunk_of[before]:
                return f"{sale} came again, though its chunk was committed before {before}"
    return f"{repeats} chunks came again after {kills} kills" if repeats > kills else ""


def run_job_in(name: str, folder: Path) -> tuple[int, bool]:
    """Run a job in a folder: its exit code, and whether there was nothing to do."""
    job = Job.of(JOBS[name], folder=folder)
    try:
        result = run(job, ledger=ledger_of(folder), observers=[_hear], check=False)
    except GroundChangedError as refused:  # before anything was recorded
        print(refused)  # noqa: T201 - into the log of the process that is killed
        return 2, False
    code = {Status.COMPLETED: 0, Status.COMPLETED_WITH_FAILURES: 3}.get(result.status, 1)
    if code == 1:
        print(result)  # noqa: T201 - into the log of the process that is killed
    return code, result.already_complete


def _hear(_: object) -> None:
    """An observer."""
