"""What a user's function is: how a processor is called, and what a function is called in messages."""

import inspect
import sys
from enum import StrEnum
from functools import partial
from pathlib import PurePath
from typing import Any

from batchwright.model.distinct import Distinct


class ProcessorKind(StrEnum):
    """How a processor is called."""

    NONE = "none"
    FUNCTION = "function"
    GENERATOR = "generator"
    ASYNC = "async function"
    ASYNC_GENERATOR = "async generator"


def processor_kind(process: object) -> ProcessorKind:
    """How this processor is called, recognised through `partial`, `distinct` and `__call__`."""
    function = _unwrapped(process)
    if function is None:
        return ProcessorKind.NONE
    if not inspect.isroutine(function):
        function = getattr(type(function), "__call__", function)  # noqa: B004 - the method itself is looked at
    if inspect.isgeneratorfunction(function):
        return ProcessorKind.GENERATOR
    if inspect.isasyncgenfunction(function):
        return ProcessorKind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function):
        return ProcessorKind.ASYNC
    return ProcessorKind.FUNCTION


def function_address(function: object) -> str:
    """A name that stays equal from run to run: `function:sales.to_sale`."""
    function = _unwrapped(function)
    described: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"function:{_module_of(described)}.{described.__qualname__}"


def _module_of(described: Any) -> str:
    """A file has one name, whether it was started itself, by it or by its workers, or loaded, or imported."""
    module = str(getattr(described, "__module__", "?"))
    started = getattr(sys.modules.get(module), "__file__", None) if module in ("__main__", "__mp_main__") else None
    return PurePath(started).stem if started else module.rpartition(".")[2]


def _unwrapped(function: object) -> Any:
    while isinstance(function, partial | Distinct):
        function = function.func if isinstance(function, partial) else function.then
    return function
