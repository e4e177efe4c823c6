"""What failures of one cause have in common: a message in which only what differs from item to item is left out.

The one rule: equal for a thousand failures that differ only in a number or a name.
"""

import re

_MESSAGE_LENGTH = 300

# An opening quote stands at the start of a word: the apostrophe of "can't" is none. The name of a class stays.
_QUOTED = re.compile(r"""(?<!\w)(?<!<class )(?<!<enum )(['"`])(?:\\.|(?!\1).)*\1""", re.DOTALL)
_HEXADECIMAL = re.compile(r"\b(?=[a-fA-F-]*\d)[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]{4,})*\b")
_NUMBER = re.compile(r"(?:(?<![^\s(\[=:])[-+])?\d+(?:[.,:/-]\d+)*")


def general_message(message: str) -> str:
    """The message with quoted parts as `'…'` and numbers as `N`: equal for failures of one cause."""
    general = _QUOTED.sub("'…'", message[:_MESSAGE_LENGTH])
    return _NUMBER.sub("N", _HEXADECIMAL.sub("N", general))
