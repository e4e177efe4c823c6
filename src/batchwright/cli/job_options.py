"""A job function's typed parameters as options of the command line.

The one rule: an option that is not given is not passed on, so that the function's own default holds and the work keeps
its identity.
"""

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import click

from batchwright.cli.option_types import ChoiceType, SecretType, option_type
from batchwright.cli.parameter_help import parameter_help
from batchwright.cli.streams import is_terminal
from batchwright.model.drop import Secret
from batchwright.model.errors import DeclarationError, ParameterError

RESERVED = frozenset(
    {
        "--accept-input",
        "--adopt",
        "--again",
        "--debug",
        "--dry-run",
        "--from",
        "--grace",
        "--help",
        "--json",
        "--ledger",
        "--limit",
        "--max-failures",
        "--no-progress",
        "--quiet",
        "--timeout",
        "--tolerate-failures",
        "--yes",
        "-h",
        "-q",
    }
)
"""The options of `run` itself, and those kept for it, which no parameter may be named after."""


class JobOption(click.Option):
    """An option that stands for a parameter of a job's function."""

    def __init__(self, declarations: list[str], parameter: str, **settings: Any) -> None:
        """`parameter` is the name in the function; the rest is click's."""
        super().__init__(declarations, **settings)
        self.parameter = parameter
        self.is_secret: bool = isinstance(self.type, SecretType)


def job_options(function: Callable[..., Any]) -> list[JobOption]:
    """An option for each parameter.

    Raises DeclarationError for a parameter without a usable annotation and for a name that is taken.
    """
    hints = _hints(function)
    described = parameter_help(function)
    options = [
        _option(function, parameter, hints, described.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    _refuse_taken(function, options)
    return options


def given_parameters(options: Iterable[JobOption], values: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters for the function: only those that were given, under the function's own names."""
    given = {}
    for option in options:
        value = values[option.name or ""]
        if value is None or (option.multiple and not value):
            continue
        given[option.parameter] = list(value) if option.multiple else value
    return given


def restored_parameters(
    options: Iterable[JobOption], stored: Mapping[str, Any], secrets: Sequence[str] = (), *, ask: bool = False
) -> dict[str, Any]:
    """Parameters out of a ledger as the function had them: enum members again, secrets from the environment.

    `secrets` are those that the run had: one that is not in the environment is asked for on a terminal, if `ask` says
    so. Raises ParameterError for one that is missing.
    """
    restored = dict(stored)
    for option in options:
        value = restored.get(option.parameter)
        if option.is_secret:
            value = _secret_again(option, needed=option.required or option.parameter in secrets, ask=ask)
        if value is not None and (option.is_secret or isinstance(option.type, ChoiceType)):
            texts = value if isinstance(value, list) else [value]
            values = [option.type.convert(str(text), option, None) for text in texts]
            restored[option.parameter] = values if option.multiple else values[0]
    return restored


def _secret_again(option: JobOption, *, needed: bool, ask: bool) -> str | None:
    name = str(option.envvar)
    value = os.environ.get(name)
    if value is not None or not needed:
        return value
    if ask and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        return str(click.prompt(f"secret {option.opts[0]}", hide_input=True, err=True))
    raise ParameterError(
        f"the secret {option.opts[0]} has to be given again", "it is never stored", f"set {name} in the environment"
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise DeclarationError(
            f"the annotations of {function.__qualname__} cannot be read",
            str(error),
            "import at run time what they name, not under TYPE_CHECKING only",
        ) from error


def _option(
    function: Callable[..., Any], parameter: inspect.Parameter, hints: Mapping[str, Any], described: str
) -> JobOption:
    where = f"parameter '{parameter.name}' of {function.__qualname__}"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise DeclarationError(f"{where} cannot be an option", f"it is {parameter}", "give it a plain name")
    if parameter.name not in hints:
        raise DeclarationError(f"{where} has no annotation", "", f"write {parameter.name}: str, int, date …")
    kind, marks = _unwrapped(hints[parameter.name])
    secret = any(mark is Secret or isinstance(mark, Secret) for mark in marks)
    flag = kind is bool and not secret
    text = next((mark for mark in marks if isinstance(mark, str)), described)
    return JobOption(
        _declarations(parameter.name, flag=flag),
        parameter.name,
        **({"required": True} if parameter.default is parameter.empty else {"default": None}),
        help=" ".join(part for part in (text, _default_text(parameter.default, secret=secret)) if part),
        **_type_settings(where, kind, flag=flag, secret=secret),
        **({"envvar": f"BATCHWRIGHT_{parameter.name.upper()}", "show_envvar": True} if secret else {}),
    )


def _type_settings(where: str, kind: Any, *, flag: bool, secret: bool) -> dict[str, Any]:
    if flag:
        return {"is_flag": True}
    repeated = get_origin(kind) is list
    value_type = option_type(get_args(kind)[0] if repeated else kind)
    if value_type is None:
        raise DeclarationError(
            f"{where} cannot be an option",
            f"its annotation is {_shown(kind)}",
            "use str, int, float, Decimal, bool, date, datetime, UUID, Path, an Enum, Literal, T | None or a list",
        )
    return {"type": SecretType(value_type) if secret else value_type, "multiple": repeated}


def _unwrapped(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type inside Annotated and Optional, in whatever order they are nested, and the marks."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        kind, more = _unwrapped(inner)
        return kind, (*marks, *more)
    if get_origin(annotation) in (Union, UnionType):
        others = [choice for choice in get_args(annotation) if choice is not NoneType]
        if len(others) == 1:
            return _unwrapped(others[0])
    return annotation, ()


def _declarations(name: str, *, flag: bool) -> list[str]:
    dashed = name.strip("_").replace("_", "-")
    return [f"job_{name}", f"--{dashed}/--no-{dashed}" if flag else f"--{dashed}"]


def _default_text(default: object, *, secret: bool) -> str:
    if default is inspect.Parameter.empty or default is None or secret:
        return ""
    if isinstance(default, list | tuple):
        shown = ", ".join(str(entry) for entry in default)
    else:
        shown = str(default.value if isinstance(default, Enum) else default)
    return f"[default: {shown}]" if shown else ""


def _refuse_taken(function: Callable[..., Any], options: list[JobOption]) -> None:
    taken = set(RESERVED)
    for option in options:
        strings = [*option.opts, *option.secondary_opts]
        found = next((text for text in strings if text in taken), None)
        if found:
            raise DeclarationError(
                f"parameter '{option.parameter}' of {function.__qualname__} has the name of another option",
                f"{found} is taken",
                "rename the parameter",
            )
        taken.update(strings)


def _shown(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
