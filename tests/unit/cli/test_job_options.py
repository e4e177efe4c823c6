"""A job function's parameters as options."""

import inspect
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import click
import pytest
from click.testing import CliRunner

from batchwright.cli.explain import explain_command
from batchwright.cli.job_options import RESERVED, given_parameters, job_options, restored_parameters
from batchwright.cli.run import run_command
from batchwright.job import Job
from batchwright.model.drop import NonIdentifying, Secret
from batchwright.model.errors import DeclarationError


class Shade(Enum):
    DARK = "d"
    LIGHT = "l"


def call(function, *arguments: str, **environment: str) -> dict[str, Any]:
    """The parameters that these arguments give; raises click's own error."""
    options = job_options(function)
    command = click.Command("job", params=list(options), callback=lambda **values: given_parameters(options, values))
    result = CliRunner(env=environment).invoke(command, arguments, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value


def of(annotation: Any, default: Any = ...):
    def job(x) -> Job: ...

    job.__annotations__["x"] = annotation
    if default is not ...:
        job.__defaults__ = (default,)
    return job


@pytest.mark.parametrize(
    ("annotation", "arguments", "value"),
    [
        (str, ["--x", "a b"], "a b"),
        (int, ["--x", "-5"], -5),
        (float, ["--x", "2.5"], 2.5),
        (bool, ["--x"], True),
        (bool, ["--no-x"], False),
        (date, ["--x", "2026-11-22"], date(2026, 11, 22)),
        (datetime, ["--x", "2026-11-22T10:30"], datetime(2026, 11, 22, 10, 30)),  # noqa: DTZ001 - as given
        (Path, ["--x", "in/a.csv"], Path("in/a.csv")),
        (Shade, ["--x", "d"], Shade.DARK),
        (Shade, ["--x", "LIGHT"], Shade.LIGHT),
        (Literal["a", 2], ["--x", "2"], 2),
        (int | None, ["--x", "3"], 3),
        (Optional[date], ["--x", "2026-11-22"], date(2026, 11, 22)),  # noqa: UP045 - as users write it
        (list[int], ["--x", "1", "--x", "2"], [1, 2]),
        (Decimal, ["--x", "1.50"], Decimal("1.50")),
        (list[Decimal], ["--x", "1", "--x", "2.5"], [Decimal(1), Decimal("2.5")]),
        (UUID, ["--x", "3f2a9b1c-0000-4000-8000-00000000ab12"], UUID("3f2a9b1c-0000-4000-8000-00000000ab12")),
        (list[Shade], ["--x", "l"], [Shade.LIGHT]),
        (list[str] | None, ["--x", "a"], ["a"]),
        (Annotated[int, NonIdentifying, "how many"], ["--x", "3"], 3),
        (Annotated[int | None, "how many"], ["--x", "3"], 3),
        (Annotated[int, "how many"] | None, ["--x", "3"], 3),
        (Annotated[str, Secret], ["--x", "hunter2"], "hunter2"),
    ],
)
def test_each_kind_of_annotation_is_an_option(annotation, arguments, value):
    assert call(of(annotation), *arguments) == {"x": value}


@pytest.mark.parametrize(
    ("annotation", "default"), [(int, 3), (bool, True), (list[int], [1]), (date | None, None), (Shade, Shade.DARK)]
)
def test_what_is_not_given_is_not_passed_on(annotation, default):
    assert call(of(annotation, default)) == {}


@pytest.mark.parametrize("annotation", [str, bool, list[int], Annotated[str, Secret]])
def test_a_parameter_without_default_is_required(annotation):
    with pytest.raises(click.MissingParameter):
        call(of(annotation))


@pytest.mark.parametrize(
    ("annotation", "given", "told"),
    [
        (int, "many", "'many' is not a whole number"),
        (date, "2026-02-30", "'2026-02-30' is not a valid date"),
        (Shade, "pink", "'pink' is none of d, l"),
        (Literal["a", "b"], "c", "'c' is none of a, b"),
        (Literal["north", "base"], "bsae", "'bsae' is none of north, base; did you mean 'base'?"),
        (float, "much", "'much' is not a valid number"),
        (Decimal, "much", "'much' is not a valid decimal number; write 1.50"),
        (Decimal, "NaN", "'NaN' is not a valid decimal number"),
        (UUID, "12", "'12' is not a valid UUID"),
    ],
)
def test_a_wrong_value_is_a_usage_error(annotation, given, told):
    with pytest.raises(click.BadParameter, match=told):
        call(of(annotation), "--x", given)


def test_a_secret_is_read_from_the_environment_and_never_repeated():
    assert call(of(Annotated[str, Secret]), BATCHWRIGHT_X="hunter2") == {"x": "hunter2"}
    with pytest.raises(click.BadParameter) as refused:
        call(of(Annotated[int, Secret]), BATCHWRIGHT_X="hunter2")
    assert "hunter2" not in refused.value.format_message()


def test_other_parameters_are_not_read_from_the_environment():
    assert call(of(str, "default"), BATCHWRIGHT_X="elsewhere") == {}


def test_help_comes_from_the_annotation_first_then_from_the_docstring():
    def job(
        day: Annotated[date, "the day"],
        max_rows: int = 10,
        key: Annotated[str, Secret] = "hunter2",
        *,
        dry: bool = False,
    ) -> Job:
        """Sum up.

        Args:
            day: overruled
            max_rows: at most
        """

    options = {option.parameter: option for option in job_options(job)}
    ctx = click.Context(click.Command("job"))
    assert options["day"].get_help_record(ctx) == ("--day YYYY-MM-DD", "the day  [required]")
    assert options["max_rows"].get_help_record(ctx) == ("--max-rows INTEGER", "at most [default: 10]")
    assert options["key"].get_help_record(ctx) == ("--key SECRET", "[env var: BATCHWRIGHT_KEY]")
    assert options["dry"].get_help_record(ctx) == ("--dry / --no-dry", "[default: False]")


@pytest.mark.parametrize("annotation", [dict, int | str, tuple[int, ...], list[dict], "Unknown", bytes])
def test_an_annotation_that_cannot_be_an_option_is_refused(annotation):
    with pytest.raises(DeclarationError):
        job_options(of(annotation))


def test_parameters_without_a_name_or_annotation_are_refused():
    def bare(x): ...

    def many(*x: int): ...

    def named(**x: int): ...

    for function, told in ((bare, "no annotation"), (many, "cannot be an option"), (named, "cannot be an option")):
        with pytest.raises(DeclarationError, match=told):
            job_options(function)


@pytest.mark.parametrize("option", sorted(RESERVED - {"-h", "-q"}))
def test_the_names_of_options_of_run_are_refused(option):
    def job(x: int): ...

    name = option.removeprefix("--").replace("-", "_")
    name += "_" if iskeyword(name) else ""
    job.__annotations__ = {name: int}
    job.__signature__ = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)])
    with pytest.raises(DeclarationError, match=f"{option} is taken"):
        job_options(job)


def test_every_option_of_the_commands_that_take_a_job_is_reserved():
    def strings(command):
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        return {text for option in options for text in (*option.opts, *option.secondary_opts)} | {"-h", "--help"}

    kept_for_later = {"--accept-input", "--adopt", "--dry-run"}
    assert strings(run_command) | kept_for_later == RESERVED
    assert strings(explain_command) <= RESERVED


def test_names_that_take_each_other_are_refused():
    def negated(*, progress: bool): ...

    def twice(*, x: bool, no_x: bool): ...

    for function in (negated, twice):
        with pytest.raises(DeclarationError, match="has the name of another option"):
            job_options(function)


def test_parameters_out_of_a_ledger_are_what_the_function_had(monkeypatch):
    def job(shade: Shade, shades: list[Shade], size: Literal[1, 2], day: date, key: Annotated[int, Secret]): ...

    monkeypatch.setenv("BATCHWRIGHT_KEY", "7")
    stored = {"shade": "d", "shades": ["l", "d"], "size": 2, "day": date(2026, 11, 22)}
    assert restored_parameters(job_options(job), stored) == {
        "shade": Shade.DARK,
        "shades": [Shade.LIGHT, Shade.DARK],
        "size": 2,
        "day": date(2026, 11, 22),
        "key": 7,
    }
