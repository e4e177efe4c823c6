"""The program `batchwright`: its commands, and what becomes of an error.

The one rule: every way out of a command ends here, as a documented exit code and at most one line of text; only our
own bugs and `--debug` show a traceback.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

import click

from batchwright.cli.documents import TOLD_AS_JSON, document
from batchwright.cli.spelling import did_you_mean
from batchwright.cli.streams import (
    is_about_stdout,
    prepare_streams,
    say,
    say_error,
    silence_stdout,
    without_secrets,
    write_json,
)
from batchwright.model.errors import BatchwrightError
from batchwright.observers.plain_text import printable

COMMANDS = {
    "run": "Run a job, or go on with it where it ended.",
    "worker": "Join a run from this process: work on partitions of its steps.",
    "resume": "Go on with a run that was stopped, failed or killed.",
    "stop": "Ask a run to stop at the end of its chunk.",
    "list": "List the jobs, each with how it stands and what to do next.",
    "abandon": "Give up a run that was not finished: it is never gone on with.",
    "prune": "Forget runs that are long over.",
    "status": "List the latest runs, one line for every attempt.",
    "show": "Show everything about a run.",
    "failures": "Show what failed in a run, grouped by cause.",
    "replay": "Give the failed items of a run to their step again.",
    "rollback": "Undo what a run did outside, as its steps say.",
    "explain": "Say what a job will do, promise and risk. Runs nothing.",
    "doctor": "Check the installation and the ledger.",
}

OWN_BUG, INTERRUPTED = 70, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: see `docs/reference/command-line.md`."""
    prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "_BATCHWRIGHT_COMPLETE" in os.environ:
        program.main(given, prog_name="batchwright")
    secrets: list[str] = []
    try:
        code = _call(given, secrets)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BaseException as error:  # noqa: BLE001 - the one place where every error ends
        return _Ending(secrets, debug="--debug" in given, json="--json" in given).explain(error)


class _LazyGroup(click.Group):
    """Commands are imported when they are called, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"batchwright.cli.{cmd_name}"), f"{cmd_name}_command")
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = did_you_mean(args[0], COMMANDS)
            ctx.fail(f"there is no command '{args[0]}'" + (f"; {near}" if near else ""))
        return super().resolve_command(ctx, args)


def _show_help(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    del parameter
    if wanted:
        from batchwright.model.version import VERSION

        click.echo(f"batchwright {VERSION}")
        ctx.exit()


program: click.Group = _LazyGroup(
    "batchwright",
    help="Batch jobs that can be killed anywhere and run again: every good row is in exactly once.",
    epilog="Start with: batchwright explain FILE.py:FUNCTION, then batchwright run FILE.py:FUNCTION",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    invoke_without_command=True,
    callback=click.pass_context(_show_help),
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
)


def _call(arguments: list[str], secrets: list[str]) -> int:
    """As click's own `main` does, but with our hands on every exception. Commands add to `secrets` what they get."""
    try:
        with program.make_context("batchwright", arguments, obj=secrets) as ctx:
            code: Any = program.invoke(ctx)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return code if isinstance(code, int) else 0


class _Ending:
    """Turns an exception into words and an exit code."""

    def __init__(self, secrets: Iterable[str], *, debug: bool, json: bool) -> None:
        self._secrets, self._debug, self._json = secrets, debug, json

    def explain(self, error: BaseException) -> int:
        if self._debug and not isinstance(error, SystemExit | click.ClickException):
            self._say_traceback(error, with_text=not isinstance(error, BatchwrightError))
        match error:
            case click.ClickException():
                return self._refuse(error, _one_line(error), error.exit_code)
            case BatchwrightError():
                code = self._refuse(error, str(error), error.exit_code)
                for note in getattr(error, "__notes__", ()):
                    say(without_secrets(note, self._secrets))
                return code
            case SystemExit():
                return error.code if isinstance(error.code, int) else 1
            case KeyboardInterrupt() | click.Abort():
                say("interrupted")
                return INTERRUPTED
            case OSError() if is_about_stdout(error):
                return self._end_without_stdout(error)
        return self._report_bug(error)

    def _refuse(self, error: BaseException, text: str, code: int) -> int:
        """Say why nothing was done; a program that asked for JSON gets its object all the same."""
        self._say_error(text)
        if self._json and TOLD_AS_JSON not in vars(error):
            try:
                write_json(document(exit_code=code, error=without_secrets(text, self._secrets)))
            except OSError:
                silence_stdout()  # nobody reads it; the error is said above
        return code

    def _end_without_stdout(self, error: OSError) -> int:
        silence_stdout()
        if isinstance(error, BrokenPipeError):
            return 0  # whoever read it has seen enough
        self._say_error(f"cannot write to standard output; {error.strerror}")
        return 1

    def _report_bug(self, error: BaseException) -> int:
        if not self._debug:
            self._say_traceback(error)
        self._say_error(
            f"this is a bug in batchwright; {type(error).__name__}: {error}; please report it with the text above"
        )
        return OWN_BUG

    def _say_traceback(self, error: BaseException, *, with_text: bool = True) -> None:
        """`with_text=False` leaves out the error's own text and notes, where they are said anyway."""
        text = "".join(traceback.format_exception(error))
        if not with_text:
            text = text.removesuffix("".join(traceback.format_exception_only(error)))
        text = without_secrets(text, self._secrets)
        for line in text.splitlines():
            say(printable(line))

    def _say_error(self, text: str) -> None:
        say_error(without_secrets(text, self._secrets))


def _one_line(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is None:
        return text
    return f"{text}{'' if text.endswith('?') else ';'} see {ctx.command_path} --help"
