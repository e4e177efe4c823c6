"""The seven cases of `make bench`: what is measured, against what, and how far it may go.

The one rule: a figure is a ratio of two things measured in the same run, alternately, as the median of several.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from children import Measured, measure, measure_code
from inputs import DATA, sales_csv, warm
from sales import CHECKED_TABLE


@dataclass(frozen=True, slots=True)
class Scale:
    """How much work: rows of the main case, runs of each side, and the longest input for peak memory."""

    name: str
    rows: int
    runs: int
    long_input: int


QUICK = Scale("quick", 20_000, 1, 100_000)
DEFAULT = Scale("default", 1_000_000, 3, 1_000_000)
FULL = Scale("full", 1_000_000, 5, 10_000_000)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `limit` is what the project promises, `target` what it aims at; lower is better."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    target: float | None = None
    detail: str = ""


Case = Callable[[Scale], Iterator[Figure]]


def load_in_chunks(scale: Scale) -> Iterator[Figure]:
    """Case 1: CSV, a function a row, upsert into SQLite, against the hand-written loop."""
    yield _load("load: CPU, chunks of 1,000", scale.rows, scale.runs, ("dicts", 1_000), (1.00, 0.80))
    yield _load("load: CPU, chunks of 1,000, rows as tuples", scale.rows, scale.runs, ("tuples", 1_000), (None, None))
    yield _load("load: CPU, chunks of 100", scale.rows, scale.runs, ("dicts", 100), (1.10, None))


def peak_memory(scale: Scale) -> Iterator[Figure]:
    """Case 2: peak memory does not grow with the input."""
    small, large = scale.rows // 10, scale.rows
    peaks = [_load_once("framework_load", sales_csv(rows), "dicts", 1_000).peak_megabytes for rows in (small, large)]
    yield _growth(f"memory: growth from {small:,} to {large:,} rows of CSV", peaks)
    small, large = scale.long_input // 10 if scale is not FULL else scale.long_input // 100, scale.long_input
    peaks = []
    for items in (small, large):
        with _folder() as folder:
            peaks.append(measure("framework_stream", items=items, ledger=f"{folder}/ledger.db").peak_megabytes)
    yield _growth(f"memory: growth from {small:,} to {large:,} items", peaks)


def restart_near_the_end(scale: Scale) -> Iterator[Figure]:
    """Case 3: going on at nine tenths of a CSV file, from opening it to the first block, against reading all of it."""
    path = sales_csv(scale.rows)
    found = [measure("framework_restart", path=str(path), at=scale.rows * 9 // 10).answer for _ in range(scale.runs)]
    full, restart = (median(answer[part] for answer in found) for part in ("full", "restart"))
    detail = f"{restart * 1e3:.2f} ms of {full * 1e3:,.0f} ms"
    yield Figure(f"restart at item {scale.rows * 9 // 10:,}", restart / full, "", 0.02, None, detail)


def rows_that_are_refused(scale: Scale) -> Iterator[Figure]:
    """Case 4: each thousandth row breaks a rule of the table, against none."""
    rows = max(scale.rows // 4, 1_000)
    found: dict[str, list[Measured]] = {"clean": [], "refused": []}
    for _ in range(scale.runs):
        for name, amount in (("clean", "1"), ("refused", "-1")):
            found[name].append(
                _load_once("framework_load", sales_csv(rows, amount), "dicts", 1_000, table=CHECKED_TABLE)
            )
    failed = [measured.answer["failed"] for measured in (found["clean"][0], found["refused"][0])]
    assert failed == [0, rows // 1_000], f"{failed} rows failed"
    yield _ratio("0.1 % rows refused: CPU of the whole job", found["refused"], found["clean"], (1.30, None))


def import_cost(scale: Scale) -> Iterator[Figure]:
    """Case 5: `import batchwright` against a bare interpreter."""
    bare, ours = [], []
    for _ in range(3 * scale.runs):
        bare.append(measure_code("pass").cpu_seconds)
        ours.append(measure_code("import batchwright").cpu_seconds)
    modules = measure("modules").answer
    detail = f"{modules['modules']} modules, {modules['ours']} of them ours"
    yield Figure("import batchwright", (median(ours) - median(bare)) * 1e3, "ms", None, None, detail)


def engine_alone(scale: Scale) -> Iterator[Figure]:
    """Case 6: the engine around nothing, against a bare loop with a `try`."""
    items = scale.rows
    bare, ours = [], []
    for _ in range(scale.runs):
        bare.append(measure("hand_count", items=items).answer["seconds"])
        ours.append(measure("framework_count", items=items).answer["seconds"])
    detail = f"{median(ours) / items * 1e9:.0f} ns an item, by hand {median(bare) / items * 1e9:.0f}"
    yield Figure("engine alone: CPU", median(ours) / median(bare), "", None, None, detail)


def loop_of_ones_own(scale: Scale) -> Iterator[Figure]:
    """Case 7: `resumable` around a loop that inserts row by row, against savepoints and a checkpoint by hand."""
    items = max(scale.rows // 10, 1_000)
    found: dict[str, list[float]] = {"hand_loop": [], "framework_loop": []}
    for _ in range(scale.runs):
        for name, seconds in found.items():
            with _folder() as folder:
                seconds.append(measure(name, database=f"{folder}/loop.db", items=items).answer["seconds"])
    hand, ours = (median(seconds) for seconds in found.values())
    detail = f"{ours / items * 1e6:.1f} µs an item, by hand {hand / items * 1e6:.1f}"
    yield Figure("a loop of one's own, resumable: CPU", ours / hand, "", None, None, detail)


CASES: tuple[Case, ...] = (
    load_in_chunks,
    peak_memory,
    restart_near_the_end,
    rows_that_are_refused,
    import_cost,
    engine_alone,
    loop_of_ones_own,
)


def _load(name: str, rows: int, runs: int, how: tuple[str, int], aims: tuple[float | None, float | None]) -> Figure:
    path = sales_csv(rows)
    warm(path)
    hand, ours = [], []
    for number in range(runs):
        contents = number == 0
        hand.append(_load_once("hand_load", path, *how, contents=contents))
        ours.append(_load_once("framework_load", path, *how, contents=contents))
    assert hand[0].answer["digest"] == ours[0].answer["digest"], "the two tables differ"
    return _ratio(name, ours, hand, aims, rows)


def _load_once(
    subject: str, path: Path, shape: str, chunk_size: int, *, table: str = "", contents: bool = False
) -> Measured:
    more: dict[str, Any] = {"table": table} if table else {}
    with _folder() as folder:
        database = f"{folder}/sales.db"
        measured = measure(subject, path=str(path), database=database, shape=shape, chunk_size=chunk_size, **more)
        if contents:
            measured.answer.update(measure("table_digest", database=database).answer)
    return measured


def _ratio(
    name: str,
    ours: list[Measured],
    other: list[Measured],
    aims: tuple[float | None, float | None],
    rows: int | None = None,
) -> Figure:
    seconds = [[measured.cpu_seconds for measured in side] for side in (ours, other)]
    pairs = [one / two for one, two in zip(*seconds, strict=True)]
    detail = f"{median(seconds[0]):.2f} s against {median(seconds[1]):.2f} s; runs {min(pairs):.2f} to {max(pairs):.2f}"
    if rows:
        detail += f"; {median(seconds[0]) / rows * 1e6:.1f} µs a row"
    return Figure(name, median(seconds[0]) / median(seconds[1]), "", *aims, detail)


def _growth(name: str, peaks: list[float]) -> Figure:
    return Figure(name, peaks[1] - peaks[0], "MB", 32.0, None, f"{peaks[0]:.1f} MB, {peaks[1]:.1f} MB")


@contextmanager
def _folder() -> Iterator[str]:
    DATA.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=DATA) as folder:
        yield folder
