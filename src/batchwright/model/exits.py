"""How a process ended, in words.

The one rule: an exit code is told as the operating system means it, a signal by its name.
"""

import signal


def in_words(code: int) -> str:
    """How a process ended: by itself, or by a signal, which is a number below zero."""
    if code >= 0:
        return f"ended itself with exit code {code}"
    try:
        name = signal.Signals(-code)
    except ValueError:
        return f"was ended by signal {-code}"
    hint = ", as the system does where memory is short" if name == signal.SIGKILL else ""
    return f"was ended by {name.name} ({signal.strsignal(name)}{hint})"
