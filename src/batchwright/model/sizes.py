"""Sizes in bytes, as people write them.

The one rule: a unit that is not known is refused, never guessed.
"""

from batchwright.model.errors import DeclarationError
from batchwright.model.timeouts import check_count

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def bytes_in(size: int | str, what: str) -> int:
    """The number of bytes of a size such as "2 GB". Raises DeclarationError, which names what it is of."""
    found: int | None = None
    if isinstance(size, str):
        number, _, unit = size.strip().rpartition(" ")
        scale = _UNITS.get(unit.upper())
        found = int(float(number) * scale) if scale and number.replace(".", "", 1).isdigit() else None
        if found is None:
            raise DeclarationError(f"{what} must be a size", f"got {size!r}", 'write "2 GB", or bytes')
    else:
        found = size
    check_count(what, found)
    return found
