"""Numbered scripts that bring our own tables forward.

The one rule: a script that was released never changes; the next one follows it.
"""

from dataclasses import dataclass
from pathlib import Path

from batchwright.model.errors import LedgerError


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered script."""

    version: int
    script: str


def numbered_scripts(folder: Path, pattern: str) -> list[Migration]:
    """The scripts in a folder that match a pattern, in order; the first number in a name is its version."""
    scripts = [
        Migration(int("".join(character for character in path.stem if character.isdigit())), path.read_text("utf-8"))
        for path in folder.glob(pattern)
    ]
    return sorted(scripts, key=lambda migration: migration.version)


def check_version(component: str, found: int, newest: int) -> None:
    """Raise LedgerError if a component's tables are newer than the newest script."""
    if found > newest:
        raise LedgerError(
            f"the batchwright tables ({component}) are of version {found}",
            f"this batchwright knows versions up to {newest}",
            "upgrade batchwright",
        )
