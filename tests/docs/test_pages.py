"""Every block of every page is run, and a page that is wrong would be noticed."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.docs.pages import RUNNABLE, Command, blocks, commands, missing_line, pages

import batchwright
import batchwright.readers
import batchwright.writers

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

SHARING = """
<!-- file: in/people.csv -->
```csv
id
1
```
```python title="count.py"
print(open("in/people.csv").read())
```
```python
number = 3
```
```python
assert number == 3
```
```console
$ python count.py
id
…
$ exit 3  # exit code 3
```
<!-- not run: it never ends -->
```bash
sleep 1000
```
"""


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_runs(page: Path, tmp_path: Path):
    done = run(page, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [*pages(ROOT), *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name)
def test_every_make_target_that_a_page_names_exists(page: Path):
    named = set(re.findall(r"(?:^|\$ |`)make ([a-z]+)", page.read_text(), re.MULTILINE))
    assert named <= TARGETS


@pytest.mark.parametrize("page", [*pages(ROOT), *sorted(ROOT.glob("*.md"))], ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path):
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(
    "page",
    [
        "```python\n1 / 0\n```\n",
        "```bash\nfalse\n```\n",
        "```console\n$ false\n```\n",
        "```console\n$ true  # exit code 3\n```\n",
        "```console\n$ echo one\ntwo\n```\n",
        '```python title="one.py"\nprint(1)\n```\n```console\n$ python two.py\n```\n',
    ],
)
def test_a_wrong_page_is_noticed(page: str, tmp_path: Path):
    (tmp_path / "page.md").write_text(page)
    done = run(tmp_path / "page.md", tmp_path)
    assert done.returncode == 1
    assert "page.md:" in done.stderr


def test_blocks_share_a_folder_and_a_namespace(tmp_path: Path):
    (tmp_path / "page.md").write_text(SHARING)
    done = run(tmp_path / "page.md", tmp_path)
    assert done.returncode == 0, done.stderr


def test_commands_end_at_their_output():
    block = next(blocks("```console\n$ one \\\n    --two\nshown\n$ three  # exit code 4\n```\n"))
    assert list(commands(block)) == [Command("one \\\n    --two", 0, ("shown",)), Command("three", 4)]


def test_shown_output_is_looked_for_in_order():
    assert missing_line(("a  1", "…", "b … s"), "a 1\nx\nb 0.3 s\n") is None
    assert missing_line(("b", "a"), "a\nb\n") == "a"


def test_the_readme_shows_something_that_runs():
    assert {block.language for block in blocks((ROOT / "README.md").read_text())} & set(RUNNABLE)


@pytest.mark.parametrize("module", [batchwright, batchwright.readers, batchwright.writers], ids=lambda m: m.__name__)
def test_every_public_name_stands_in_the_reference(module: ModuleType):
    reference = (ROOT / "docs" / "reference" / "python.md").read_text()
    assert [name for name in module.__all__ if not re.search(rf"\b{name}\b", reference)] == []


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(__file__).with_name("run_page.py")
    return subprocess.run(
        [sys.executable, program, page], cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
