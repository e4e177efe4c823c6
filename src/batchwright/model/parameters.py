"""A job's parameters: whether they fit its function, which are stored, which say what work it is."""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from batchwright.model.codec import encode
from batchwright.model.drop import NonIdentifying, Secret
from batchwright.model.errors import CodecError, ParameterError


@dataclass(frozen=True, slots=True)
class SortedParameters:
    """Parameters that are kept, those of them that identify the work, and texts that must never be shown.

    `identifiable` says whether the function has any parameter that could identify the work; `secret_names` are the
    parameters that are secret and were given.
    """

    kept: Mapping[str, Any]
    identifying: Mapping[str, Any]
    secrets: tuple[str, ...]
    identifiable: bool
    secret_names: tuple[str, ...] = ()


def sort_parameters(function: Callable[..., Any], parameters: Mapping[str, Any]) -> SortedParameters:
    """Raises ParameterError if they do not fit the function's signature."""
    signature = inspect.signature(function)
    try:
        signature.bind(**parameters)
    except TypeError as error:
        raise ParameterError(f"the parameters do not fit {function.__qualname__}{signature}", str(error)) from None
    hints = get_type_hints(function, include_extras=True)
    kept, identifying, secrets = {}, {}, _secret_defaults(signature, hints, parameters)
    for name, value in parameters.items():
        if is_marked(hints.get(name), Secret):
            secrets.append(str(value))
            continue
        kept[name] = value
        known = signature.parameters.get(name)
        if not is_marked(hints.get(name), NonIdentifying) and not (known and _equal(known.default, value)):
            # A relative path means another file in another folder.
            identifying[name] = os.path.abspath(value) if isinstance(value, Path) else value  # noqa: PTH100 - see above
    could = any(
        not is_marked(hints.get(name), Secret) and not is_marked(hints.get(name), NonIdentifying)
        for name in signature.parameters
    )
    names = tuple(name for name in parameters if is_marked(hints.get(name), Secret))
    return SortedParameters(kept, identifying, tuple(secret for secret in secrets if secret), could, names)


def _secret_defaults(
    signature: inspect.Signature, hints: Mapping[str, Any], parameters: Mapping[str, Any]
) -> list[str]:
    """A secret that stands in the code as a default is one all the same."""
    left = (known for name, known in signature.parameters.items() if name not in parameters)
    defaults = (known.default for known in left if is_marked(hints.get(known.name), Secret))
    return [str(default) for default in defaults if default not in (inspect.Parameter.empty, None)]


def restore_parameters(function: Callable[..., Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters out of a ledger as the function takes them: an enum's member again for its value."""
    hints = get_type_hints(function)
    return {name: _member(hints.get(name), value) for name, value in stored.items()}


def is_marked(annotation: object, mark: type) -> bool:
    """Whether an annotation carries this mark, as the class or as an instance of it."""
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return any(found is mark or isinstance(found, mark) for found in marks)


def check_storable(job: str, parameters: Mapping[str, Any]) -> None:
    """Raise ParameterError for a value that the codec does not know."""
    for name, value in parameters.items():
        try:
            encode(value).encode("utf-8")
        except (CodecError, UnicodeEncodeError) as error:
            raise ParameterError(
                f"job '{job}': parameter '{name}' cannot be stored",
                str(error),
                "pass plain values and build objects inside the job function",
            ) from None


def _member(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    arguments = get_args(hint)
    if isinstance(value, list) and get_origin(hint) is list:
        return [_member(arguments[0], entry) for entry in value]
    enums = [known for known in arguments if isinstance(known, type) and issubclass(known, Enum)]
    return enums[0](value) if enums and value is not None else value


def _equal(default: object, value: object) -> bool:
    return type(default) is type(value) and default == value
