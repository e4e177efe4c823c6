"""Where outputs go, by technology, each with its guarantee.

The one rule: a writer's module is loaded when its name is first used, so that files need no database driver.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchwright.writers.csv_files import csv_file
    from batchwright.writers.effect_calls import effects
    from batchwright.writers.file_sets import file_set
    from batchwright.writers.functions import each
    from batchwright.writers.json_lines import json_lines_file
    from batchwright.writers.routes import route
    from batchwright.writers.sql import execute, insert, upsert
    from batchwright.writers.text_files import text_file

__all__ = [
    "csv_file",
    "each",
    "effects",
    "execute",
    "file_set",
    "insert",
    "json_lines_file",
    "route",
    "text_file",
    "upsert",
]

_MODULES = {
    "csv_file": "csv_files",
    "each": "functions",
    "effects": "effect_calls",
    "execute": "sql",
    "file_set": "file_sets",
    "insert": "sql",
    "json_lines_file": "json_lines",
    "route": "routes",
    "text_file": "text_files",
    "upsert": "sql",
}


def __getattr__(name: str) -> Any:
    """The writer of this name, from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The writers, loaded or not."""
    return sorted({*globals(), *__all__})
