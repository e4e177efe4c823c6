"""What a docstring says about each parameter: Google, NumPy and reST style.

The one rule: a docstring in no known style is no error, it only helps nobody.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

_REST = re.compile(r"^:param\s+(?:[^:]*\s)?\*{0,2}(\w+):\s*(.*)$")
_GOOGLE_HEAD = re.compile(r"^(Args|Arguments|Parameters|Params):\s*$")
_GOOGLE_ENTRY = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_NUMPY_ENTRY = re.compile(r"^\*{0,2}(\w+)\s*(?::.*)?$")


def parameter_help(function: Callable[..., Any]) -> dict[str, str]:
    """One line of help for each parameter that the docstring describes."""
    lines = (inspect.getdoc(function) or "").splitlines()
    described = _rest(lines) or _google(lines) or _numpy(lines)
    return {name: " ".join(text.split()) for name, text in described.items() if text.strip()}


def first_paragraph(function: Callable[..., Any]) -> str:
    """What the function's docstring begins with, as the command's own help."""
    paragraph = (inspect.getdoc(function) or "").split("\n\n")[0]
    return "" if _GOOGLE_HEAD.match(paragraph.split("\n")[0]) or paragraph.startswith(":param") else paragraph


def _rest(lines: list[str]) -> dict[str, str]:
    described: dict[str, str] = {}
    name = ""
    for line in lines:
        found = _REST.match(line)
        if found:
            name = found[1]
            described[name] = found[2]
        elif name and line[:1].isspace():
            described[name] += f" {line.strip()}"
        else:
            name = ""
    return described


def _google(lines: list[str]) -> dict[str, str]:
    start = next((number for number, line in enumerate(lines) if _GOOGLE_HEAD.match(line)), None)
    return {} if start is None else dict(_entries(_section(lines[start + 1 :]), _GOOGLE_ENTRY))


def _section(lines: list[str]) -> list[str]:
    """The indented lines that follow, with the indentation of the first one taken away."""
    indent = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    section: list[str] = []
    for line in lines:
        if line.strip() and not line[:1].isspace():
            break
        section.append(line[indent:])
    return section


def _numpy(lines: list[str]) -> dict[str, str]:
    for number, line in enumerate(lines[:-1]):
        if line.strip() == "Parameters" and re.fullmatch(r"-{3,}", lines[number + 1].strip()):
            return dict(_entries(_until_underline(lines[number + 2 :]), _NUMPY_ENTRY))
    return {}


def _until_underline(lines: list[str]) -> list[str]:
    for number, line in enumerate(lines):
        if re.fullmatch(r"-{3,}", line.strip()):
            return lines[: number - 1]
    return lines


def _entries(lines: list[str], entry: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Names at the left margin, each with the text after it and the deeper lines below it."""
    name, text = "", ""
    for line in lines:
        found = entry.match(line)
        if found:
            if name:
                yield name, text
            name, text = found[1], found[2] if found.lastindex and found.lastindex > 1 else ""
        elif line.strip():
            text += f" {line.strip()}"
    if name:
        yield name, text
