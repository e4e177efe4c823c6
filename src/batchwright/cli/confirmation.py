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
    if not click.confirm(question, err=True):
        raise ConfirmationError(why, "the answer was no", "nothing was done")
