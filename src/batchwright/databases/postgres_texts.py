"""Texts with NUL characters in PostgreSQL, whose texts have none.

The one rule: what comes back is what was stored, character by character. A text without NUL and DLE is stored as it is.
"""

import re
from typing import Any

_DLE = "\x10"
_ESCAPED = re.compile(f"{_DLE}(.)", re.DOTALL)


def escaped(value: Any) -> Any:
    """A text without NUL; any other value as it is."""
    if not isinstance(value, str) or ("\0" not in value and _DLE not in value):
        return value
    return value.replace(_DLE, _DLE * 2).replace("\0", f"{_DLE}0")


def unescaped(value: Any) -> Any:
    """The text that was escaped; any other value as it is."""
    if not isinstance(value, str) or _DLE not in value:
        return value
    return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else found[1], value)
