"""`make bench`: measure, print a table of ratios, and add a line to `benchmarks/history.jsonl`.

The one rule: it reports and never judges; no build fails because a machine was busy.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cases import CASES, DEFAULT, FULL, QUICK, Figure, Scale

HISTORY = Path(__file__).with_name("history.jsonl")


def main() -> None:
    """Run the cases that were asked for."""
    arguments = _arguments()
    scale: Scale = arguments.scale
    if arguments.rows:
        scale = replace(scale, name=f"{scale.name}, {arguments.rows} rows", rows=arguments.rows)
    if arguments.runs:
        scale = replace(scale, runs=arguments.runs)
    print(f"Lower is better; medians of {scale.runs}; {scale.rows:,} rows; scale: {scale.name}.", flush=True)
    if scale.name == "quick":
        print("This shows that it runs. With so few rows the start of a process is most of every figure.")
    print(f"{'':52}{'found':>9}{'limit':>8}{'target':>8}", flush=True)
    begun, figures = time.monotonic(), []
    for case in CASES:
        if arguments.only and arguments.only not in case.__name__:
            continue
        for figure in case(scale):
            print(_line(replace(figure, limit=None, target=None) if scale.name == "quick" else figure), flush=True)
            figures.append(figure)
    print(f"{time.monotonic() - begun:.0f} s")
    if scale in (DEFAULT, FULL) and not arguments.only:
        _remember(scale, figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure speed and memory against the loop written by hand.")
    scales = parser.add_mutually_exclusive_group()
    scales.add_argument(
        "--quick", dest="scale", action="store_const", const=QUICK, help="does it run? under half a minute"
    )
    scales.add_argument(
        "--full", dest="scale", action="store_const", const=FULL, help="more runs, and memory over 10,000,000 items"
    )
    parser.add_argument("--rows", type=int, help="rows of the main case")
    parser.add_argument("--runs", type=int, help="runs of each side")
    parser.add_argument("--only", help="cases with this in their name: " + ", ".join(case.__name__ for case in CASES))
    parser.set_defaults(scale=DEFAULT)
    return parser.parse_args()


def _line(figure: Figure) -> str:
    shown = f"{figure.value:.1f} {figure.unit}" if figure.unit else f"{figure.value:.{_digits(figure.value)}f}"
    limit, target = ("" if aim is None else f"{aim:.2f}" for aim in (figure.limit, figure.target))
    late = figure.limit is not None and figure.value > figure.limit
    mark = "  over its limit" if late else ""
    return f"{figure.name:52}{shown:>9}{limit:>8}{target:>8}{mark}\n    {figure.detail}"


def _digits(value: float) -> int:
    return 2 if value >= 0.1 else 4


def _remember(scale: Scale, figures: list[Figure]) -> None:
    """Add a line to the history. It names no machine and no path."""
    line: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "scale": scale.name,
        "rows": scale.rows,
        "runs": scale.runs,
        "figures": {figure.name: round(figure.value, 4) for figure in figures},
    }
    with HISTORY.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(f"added to {HISTORY.name}")


def _commit() -> str:
    """The short commit, with a plus if the sources differ from it; empty where there is no git."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--", "src", "benchmarks/*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(HISTORY.parent.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
