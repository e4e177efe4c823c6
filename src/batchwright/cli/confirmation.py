"""Asking a person before something that cannot be taken back.

The one rule: whoever cannot be asked has to say yes beforehand; silence is no yes.
"""

import sys

import click

from batchwright.cli.streams import is_terminal
from batchwright.model.errors import ConfirmationError


def require_yes(why: str, question: str, *, given: bool) -> None:
    """Return if `given`, or if a person at a terminal says yes. Raises ConfirmationError."""
    if given:
        return
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise ConfirmationError(why, "nobody can be asked here", "say yes with --yes")
    try:
        answer = click.confirm(question, err=True)
    except click.Abort as ended:
        # click says the same of Ctrl-C and of the end of the input; only the one is an interruption.
        if not isinstance(ended.__context__, EOFError):
            raise
        raise ConfirmationError(why, "there was no answer", "nothing was done; --yes says yes") from None
    if not answer:
        raise ConfirmationError(why, "the answer was no", "nothing was done")
