"""Options that several commands have, so that they read alike everywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from batchwright.cli.option_types import Seconds, WholeNumber
from batchwright.cli.signals import GRACE_SECONDS
from batchwright.databases.postgres import is_postgres

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """`--json`: one object on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def ledger_option(command: Command) -> Command:
    """`--ledger`: where the durable record is; otherwise as `launch.ledger_place` finds it."""
    return click.option(
        "--ledger",
        callback=_ledger_place,
        metavar="PATH",
        help="The ledger to use, a file or postgresql://…; otherwise BATCHWRIGHT_LEDGER, otherwise the nearest "
        ".batchwright/ upward.",
    )(command)


def _ledger_place(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Path | str | None:  # noqa: ARG001 - click gives them
    """An address stays a text: as a path it would lose a slash."""
    return value if value is None or is_postgres(value) else Path(value)


def grace_option(command: Command) -> Command:
    """`--grace`: how long a signal leaves for the chunk in work."""
    return click.option(
        "--grace",
        type=Seconds(0),
        default=GRACE_SECONDS,
        metavar="SECONDS",
        help=f"How long a signal leaves for the chunk in work; {GRACE_SECONDS:g} by default.",
    )(command)


def debug_option(command: Command) -> Command:
    """`--debug`: the traceback of an error. `program.main` looks for it."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")(command)


def where_option(command: Command) -> Command:
    """`--where`: which failures are meant."""
    return click.option(
        "--where",
        multiple=True,
        metavar="TERM",
        help="Only failures like this: error_type=ValueError, error~text, phase=read, line=10..20; != and !~ for the "
        "others. Repeated, all of them hold.",
    )(command)


def run_argument(*, required: bool) -> Callable[[Command], Command]:
    """`RUN`: a run's number, where it may be left out the latest."""
    return click.argument("run", type=WholeNumber(1), required=required, metavar="RUN")
