"""The type checker accepts what it should and rejects what it should: both files pass mypy, strict."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@pytest.mark.parametrize("name", ["accepted.py", "rejected.py"])
def test_mypy_agrees(name: str) -> None:
    done = check(FOLDER / name)
    assert done.returncode == 0, done.stdout


def test_a_case_that_is_accepted_after_all_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    cases = (FOLDER / "rejected.py").read_text()
    wrong.write_text(cases.replace("take_texts(texts: Sequence[str])", "take_texts(texts: Sequence[int])"))
    done = check(wrong)
    assert done.returncode == 1
    assert "unused-ignore" in done.stdout


def check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
