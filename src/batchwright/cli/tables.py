"""Tables for people. On a terminal they fold to its width; elsewhere every cell is whole and every row one line.

The one rule: a cell is plain text. Nothing in it is read as markup or sent to the terminal as a command.
"""

import io
import shutil
import sys
from collections.abc import Iterable, Sequence

from batchwright.cli.streams import is_terminal, wants_colour, write_line
from batchwright.observers.plain_text import printable

_NEVER_FOLDED = 1_000_000
_STYLES = {
    "COMPLETED": "green",
    "COMPLETED_WITH_FAILURES": "yellow",
    "STOPPED": "yellow",
    "FAILED": "red",
    "LOST": "red",
    "RUNNING": "cyan",
}


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their columns, on standard output. A column whose name starts with `#` is flushed right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column.startswith("#")
        table.add_column(column.lstrip("#"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        cells = [printable(cell) for cell in row]
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in cells))
    _write(table)


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


def _write(table: object) -> None:
    from rich.console import Console

    colour = wants_colour(sys.stdout)
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else _NEVER_FOLDED
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
    for line in buffer.getvalue().splitlines():
        write_line(line.rstrip())
