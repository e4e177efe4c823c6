"""Standard output and standard error: data on the one, words on the other.

The one rule: a stream that is closed, broken or full never changes what a run does, and nothing from data commands a
terminal.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from batchwright.observers.plain_text import printable

STDOUT = "standard output"

_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def prepare_streams() -> None:
    """Make sure that the first three descriptors exist, and that no character can break a write."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # it is closed: without this the next file opened would take its number
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def write_json(document: Mapping[str, Any]) -> None:
    """One object on standard output, indented on a terminal, on one line elsewhere."""
    write_line(json_text(document, indent=2 if is_terminal(sys.stdout) else None))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in which control and direction characters are escaped."""
    text = json.dumps(value, ensure_ascii=not _is_utf_8(sys.stdout), indent=indent, default=str)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_line(line: str) -> None:
    """One line of data. Raises OSError, with STDOUT for its filename, if standard output is broken or full."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(line + "\n")
    except OSError as error:
        error.filename = STDOUT
        raise


def say(text: str) -> None:
    """Words for people, on standard error, if anybody listens."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody listens: the exit code says the rest
        return


def say_error(text: str) -> None:
    """`error: …` on one line of standard error."""
    label = "\x1b[1;31merror:\x1b[0m" if wants_colour(sys.stderr) else "error:"
    say(f"{label} {printable(text)}")


def wants_colour(stream: TextIO | None) -> bool:
    """NO_COLOR goes before FORCE_COLOR, both before what the stream is."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM", "").lower() not in {"", "dumb", "unknown"}


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person looks at it; a closed stream has no one."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def is_about_stdout(error: OSError) -> bool:
    """Whether standard output is what an error speaks of, or takes nothing any more."""
    if error.filename == STDOUT or isinstance(error, BrokenPipeError):
        return True
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return True
    except AttributeError:  # it is closed
        return False
    return False


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret replaced by stars."""
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    return text


def silence_stdout() -> None:
    """Send what is still buffered nowhere, so that the interpreter's own flush at exit finds nothing to complain of."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # there is no descriptor behind it
        sys.stdout = None  # as the interpreter itself has it when it is closed


def _is_utf_8(stream: TextIO | None) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
