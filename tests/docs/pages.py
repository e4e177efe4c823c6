"""A page of Markdown as the blocks that are run. The one rule: a block is run, written to a file, or says why not.

What a page's author may write stands in CONTRIBUTING.md, under "Documents that run".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUNNABLE = ("python", "bash", "console")

_FENCE = re.compile(r"^```(?P<language>\w*)\s*(?P<options>.*)$")
_TITLE = re.compile(r'title="(?P<file>[^"]+)"')
_FILE = re.compile(r"^<!-- file: (?P<file>\S+) -->$")
_NOT_RUN = re.compile(r"^<!-- not run: (?P<reason>.+) -->$")
_EXIT_CODE = re.compile(r"\s+# exit code (?P<code>\d+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text and first line, the file it makes, and why it is not run."""

    language: str
    text: str
    line: int
    file: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Command:
    """A command of a console block, the exit code it must have, and the output that the page shows for it."""

    text: str
    exit_code: int = 0
    shown: tuple[str, ...] = ()

    @property
    def make_targets(self) -> list[str]:
        """The targets if this is a call of make, which is checked and not run: it would run these tests again."""
        words = self.text.split()
        return [word for word in words[1:] if "=" not in word] if words[0] == "make" else []

    @property
    def installs(self) -> bool:
        """Whether it would change the environment that the page is run in."""
        return self.text.startswith(("pip install", "git clone", "cd "))


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = text.splitlines()
    number, before = 0, ""
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if not fence:
            before = lines[number].strip() or before
            number += 1
            continue
        end = next(index for index in range(number + 1, len(lines)) if lines[index].startswith("```"))
        named = _TITLE.search(fence["options"]) or _FILE.match(before)
        spared = _NOT_RUN.match(before)
        body = "\n".join(lines[number + 1 : end]) + "\n"
        yield Block(
            fence["language"], body, number + 2, named["file"] if named else "", spared["reason"] if spared else ""
        )
        number, before = end + 1, ""


def commands(block: Block) -> Iterator[Command]:
    """The commands of a console block: a line that starts with `$ `, until it no longer ends with a backslash."""
    pending: list[str] = []
    shown: list[str] = []
    for line in block.text.splitlines():
        continued = bool(pending) and pending[-1].endswith("\\") and not shown
        if line.startswith("$ "):
            if pending:
                yield _command(pending, shown)
            pending, shown = [line[2:]], []
        elif continued:
            pending.append(line)
        else:
            shown.append(line)
    if pending:
        yield _command(pending, shown)


def missing_line(shown: tuple[str, ...], output: str) -> str | None:
    """The first shown line that the output lacks, looked for in order. `…` stands for anything, blanks count once."""
    real = iter(_normal(line) for line in output.splitlines())
    for line in filter(None, map(_normal, shown)):
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))) + "$")
        if line != "…" and not any(pattern.match(candidate) for candidate in real):
            return line
    return None


def pages(root: Path) -> list[Path]:
    """Every page whose blocks are run."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def _command(lines: list[str], shown: list[str]) -> Command:
    text = "\n".join(lines)
    code = _EXIT_CODE.search(text)
    return Command(_EXIT_CODE.sub("", text), int(code["code"]) if code else 0, tuple(shown))


def _normal(line: str) -> str:
    return " ".join(line.split())
