"""Where items come from, by technology."""

from typing import TYPE_CHECKING, Any

from batchwright.readers.csv_files import csv_rows
from batchwright.readers.file_listings import files
from batchwright.readers.json_lines import json_lines
from batchwright.readers.text_files import text_lines

if TYPE_CHECKING:
    from batchwright.readers.sql import query

__all__ = ["csv_rows", "files", "json_lines", "query", "text_lines"]


def __getattr__(name: str) -> Any:
    """Load `query`, and sqlite3 with it, only for those who ask for it."""
    if name == "query":
        from batchwright.readers.sql import query

        return query
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
