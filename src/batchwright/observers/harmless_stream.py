"""A stream that can be closed, broken or full without anybody noticing.

The one rule: what goes through it is for people who may have left; losing it never harms a run.
"""

import os
from typing import Any, TextIO


class HarmlessStream:
    """Passes text on until the stream behind it fails; from then on the text is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        """`stream` is None where the interpreter was started with it closed."""
        self._stream = stream

    def write(self, text: str) -> int:
        """The number of characters, written or not."""
        self._attempt("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, if there is anything to flush to."""
        self._attempt("flush")

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return bool(self._attempt("isatty"))

    def can_move(self) -> bool:
        """Whether it is a terminal that can move its cursor."""
        return self.isatty() and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}

    @property
    def encoding(self) -> str:
        """That of the stream behind it."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, name: str, *arguments: Any) -> Any:
        if self._stream is None:
            return None
        try:
            return getattr(self._stream, name)(*arguments)
        except (OSError, ValueError):
            self._stream = None  # gone for good: nobody looks any more, and the run goes on
            return None
