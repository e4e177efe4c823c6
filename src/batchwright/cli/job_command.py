"""A command whose first argument names a job, FILE.py:FUNCTION: the job's parameters become options of the command.

The one rule: the job's file is loaded before its options are read, and what it prints goes to standard error.
"""

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

import click

from batchwright.cli.job_options import JobOption, given_parameters, job_options, restored_parameters
from batchwright.cli.next_commands import target_of
from batchwright.cli.parameter_help import first_paragraph
from batchwright.job import Job
from batchwright.model.errors import BatchwrightError, DeclarationError, OriginError
from batchwright.model.execution import JobExecution
from batchwright.observers.harmless_stream import HarmlessStream

METAVAR = "FILE.py:FUNCTION"


@dataclass(frozen=True, slots=True)
class ChosenJob:
    """A job's function as the command line names it, with the parameters given for it."""

    target: str
    function: Callable[..., Job]
    parameters: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """The job's file."""
        return Path(self.target.rpartition(":")[0] if ".py:" in self.target else self.target)

    def build(self) -> Job:
        """The job. Raises DeclarationError if its function raises anything that is no error of ours."""
        try:
            with user_output_on_stderr():
                return Job.of(self.function, **self.parameters)
        except BatchwrightError:
            raise
        except SystemExit as ended:
            raise DeclarationError(
                f"{self.target} cannot be built",
                f"it calls sys.exit({ended.code!r})",
                "raise an error that says what is wrong, or leave that to a step",
            ) from ended
        except Exception as error:
            raise DeclarationError(
                f"{self.target} cannot be built", f"{type(error).__name__}: {error}", "--debug shows where"
            ) from error


def chosen_again(execution: JobExecution, *, ask: bool = True) -> ChosenJob | None:
    """The job of an execution; None for one that was built by hand.

    Secrets are read from the environment, or asked for where somebody is at a terminal, unless `ask` is False. Raises
    ParameterError for one that the run had and nobody gives.
    """
    if execution.origin is None or not execution.origin.path or execution.origin.is_script:
        return None
    function = load_job_function(str(execution.origin))
    options = job_options(function)
    parameters = restored_parameters(options, execution.parameters, execution.secrets, ask=ask)
    _keep_secrets(options, parameters)
    return ChosenJob(target_of(execution.origin), function, parameters)


class JobCommand(click.Command):
    """A command that takes a job. Its callback gets a ChosenJob and the command's own options."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Load the job that the arguments name, then read the others with its options added."""
        place = self._find_target(args)
        if place is None:
            return super().make_context(info_name, args, parent, **extra)
        others = [*args[:place], *args[place + 1 :]]
        bound = self._with_options_of(args[place])
        return bound.make_context(f"{info_name} {args[place]}", others, parent, **extra)

    def _find_target(self, args: list[str]) -> int | None:
        """Where the first argument stands that is neither an option nor the value of one of our own."""
        own = {text: option for option in self.params if isinstance(option, click.Option) for text in option.opts}
        places = iter(range(len(args)))
        for place in places:
            argument = args[place]
            if not argument.startswith("-"):
                return place
            if argument in own and not own[argument].is_flag:
                next(places, None)
            elif argument not in own and argument not in ("-h", "--help") and "=" not in argument:
                raise click.UsageError(f"{argument} stands before the job; name the job first: {METAVAR} {argument} …")
        return None

    def _with_options_of(self, target: str) -> click.Command:
        function = load_job_function(target)
        options = job_options(function)
        own = [parameter for parameter in self.params if isinstance(parameter, click.Option)]
        return _BoundCommand(
            self.name,
            params=[*options, *own],
            callback=partial(_call, self.callback, target, function, options),
            help="\n\n".join(filter(None, (first_paragraph(function), inspect.cleandoc(self.help or "")))),
            epilog=self.epilog,
            context_settings=self.context_settings,
        )


@contextlib.contextmanager
def user_output_on_stderr() -> Iterator[None]:
    """What the user's code prints meanwhile goes to standard error: standard output is for data."""
    with contextlib.redirect_stdout(cast("TextIO", HarmlessStream(sys.stderr))):
        yield


def _call(
    callback: Callable[..., Any] | None,
    target: str,
    function: Callable[..., Job],
    options: list[JobOption],
    **values: Any,
) -> Any:
    parameters = given_parameters(options, values)
    own = {name: value for name, value in values.items() if not name.startswith("job_")}
    _keep_secrets(options, parameters)
    return callback and callback(ChosenJob(target, function, parameters), **own)


def _keep_secrets(options: list[JobOption], parameters: Mapping[str, Any]) -> None:
    """Tell the program what no text may show."""
    secrets = {option.parameter for option in options if option.is_secret}.intersection(parameters)
    click.get_current_context().ensure_object(list).extend(str(parameters[name]) for name in secrets)


class _BoundCommand(click.Command):
    """The command with one job's options, in two groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, of_job in (("Options of the job", True), ("Options of the command", False)):
            records = [
                record
                for parameter in self.get_params(ctx)
                if isinstance(parameter, JobOption) is of_job and (record := parameter.get_help_record(ctx))
            ]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def load_job_function(target: str) -> Callable[..., Job]:
    """The function that FILE.py:FUNCTION names. Raises OriginError."""
    from batchwright.origins import load_function

    try:
        with user_output_on_stderr():
            return load_function(target)
    except SystemExit as ended:
        raise OriginError(
            f"{target} cannot be loaded",
            f"its file calls sys.exit({ended.code!r})",
            'put what it runs under if __name__ == "__main__":',
        ) from ended
