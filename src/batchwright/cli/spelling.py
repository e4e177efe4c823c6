"""What somebody who misspelt a name may have meant.

The one rule: a guess is offered, never taken.
"""

import difflib
from collections.abc import Iterable

CUTOFF = 0.5


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like the word, in whatever case; None where none is."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, 1, CUTOFF)
    return names[near[0]] if near else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'load'?`, or nothing."""
    near = nearest(word, known)
    return f"did you mean '{near}'?" if near else ""
