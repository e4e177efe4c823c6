"""Tables for people. On a terminal they fold to its width; elsewhere every cell is whole and every row one line.

The one rule: a cell is plain text. Nothing in it is read as markup or sent to the terminal as a command.
"""

import io
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from batchwright.cli.streams import is_terminal, wants_colour, write_line
from batchwright.observers.plain_text import printable

NARROW = 100
"""On a terminal with fewer columns a table leaves out, or puts below its row, what is not needed to find the row."""

ERROR_WIDTH = 120
"""Characters of an error that a table shows; all of it is in the other forms."""

LEAST_PLACE = 12
"""Characters of a place that are shown, however little room there is."""

_NEVER_FOLDED = 1_000_000
_FUNCTION_PLACE = re.compile(r"function:(?:[^ ]*\.)?([^ .]+) item (\d+)")
_STYLES = {
    "COMPLETED": "green",
    "COMPLETED_WITH_FAILURES": "yellow",
    "COMPLETED*": "yellow",
    "STOPPED": "yellow",
    "FAILED": "red",
    "LOST": "red",
    "COMPENSATION_LOST": "red",
    "COMPENSATION_FAILED": "red",
    "RUNNING": "cyan",
}


def terminal_width() -> int | None:
    """The columns of the terminal that standard output is, or None where it is none: there nothing is ever cut."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def cut(text: str, width: int | None) -> str:
    """The text, or as much of it as fits with an ellipsis behind it."""
    return text if width is None or len(text) <= width else text[: max(width - 1, 0)] + "…"


def short_place(place: object) -> str:
    """Where an item is, in a table: of a function that gave it only the name, `rows item 614`."""
    return _FUNCTION_PLACE.sub(r"\1 item \2", str(place))


def cut_between(text: str, width: int) -> str:
    """The text, or its beginning and its end with an ellipsis between them: of a place both are needed."""
    if len(text) <= width:
        return text
    end = max(width - 1, 0) * 2 // 3
    return f"{text[: max(width - 1 - end, 0)]}…{text[len(text) - end :]}"


def write_fitting(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    place: int,
    below: Sequence[int],
    left_out: Sequence[int] = (),
) -> None:
    """A table of at least one row; where it has no room without folding a cell, one of lines with cells below them.

    Then the cells of the columns `below` stand there, those `left_out` nowhere, and that of `place` is cut to fit.
    """
    width = terminal_width()
    if width is None or sum(_widths(columns, rows)) + 2 * (len(columns) - 1) <= width:
        write_table(columns, rows)
        return
    kept = [at for at in range(len(columns)) if at not in (*below, *left_out)]
    some = [columns[at] for at in kept]
    short = _fit_places(some, [[row[at] for at in kept] for row in rows], kept.index(place))
    write_table(some, short, [[str(row[at]) for at in below] for row in rows])


def _fit_places(columns: Sequence[str], rows: Sequence[Sequence[object]], at: int) -> list[Sequence[object]]:
    """The rows with the places in column `at` cut so that a row is one line on the terminal."""
    widths = _widths(columns, rows)
    room = (terminal_width() or _NEVER_FOLDED) - sum(widths) + widths[at] - (len(columns) - 1)
    return [[*row[:at], cut_between(printable(row[at]), max(room, LEAST_PLACE)), *row[at + 1 :]] for row in rows]


def _widths(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[int]:
    heads = [len(column.lstrip("#")) for column in columns]
    return [max(head, *(len(printable(row[at])) for row in rows)) for at, head in enumerate(heads)]


def write_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], below: Sequence[str | Sequence[str]] | None = None
) -> None:
    """Rows under their columns, on standard output. A column whose name starts with `#` is flushed right.

    With `below` a row is one line and has a text, or several, below it, except for those that are empty.
    """
    from rich.table import Table
    from rich.text import Text

    gap = 2 if below is None else 1  # one line a row has to do with what there is
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    folding: Any = {"overflow": "fold"} if below is None else {"overflow": "ellipsis", "no_wrap": True}
    for column in columns:
        right = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if right else "left", **folding)
    for row in rows:
        cells = [printable(cell) for cell in row]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    for line, text in zip_longest(_rendered(table), ["", *(below or ())], fillvalue=""):
        write_line(line)
        for each in (text,) if isinstance(text, str) else text:
            if each:
                write_line(cut(f"     {printable(each)}", terminal_width()))


def write_facts(facts: Iterable[tuple[str, object]], indent: str = "") -> None:
    """Names and values, one pair a line."""
    pairs = [(name, printable(value)) for name, value in facts]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        write_line(f"{indent}{name:<{width}}  {value}".rstrip())


def write_heading(text: str) -> None:
    """A line that stands out a little."""
    write_line("")
    write_line(f"\x1b[1m{text}\x1b[0m" if wants_colour(sys.stdout) else text)


def _rendered(table: object) -> list[str]:
    from rich.console import Console

    colour = wants_colour(sys.stdout)
    width = terminal_width() or _NEVER_FOLDED
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=max(width, 40),
        force_terminal=colour,
        no_color=not colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
    )
    console.print(table)
    return [line.rstrip() for line in buffer.getvalue().splitlines()]
