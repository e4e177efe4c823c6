"""CRASH among the items: each marker kills once, whatever kind of function processes it, and leaves no output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.crash.fork_client import ROOT

from batchwright.model.errors import DeclarationError
from batchwright.testing.crash_points import CRASH, crash_after, crash_at, crash_on_marker

PROGRAM = """
import sys
from pathlib import Path
from batchwright import Step, run
from batchwright.testing.crash_points import CRASH, crash_on_marker
from batchwright.writers import text_file

folder, kind = Path(sys.argv[1]), sys.argv[2]

def function(item): return item.upper()
def generator(item): yield item.upper()
async def coroutine(item): return item.upper()
async def stream(item): yield item.upper()

items = ["a", "b", CRASH, "c", CRASH + " again", "d", {"name": CRASH + " in a dict"}, "e"]
process = crash_on_marker({"none": None}.get(kind, globals().get(kind)), folder / "marks")
result = run(Step("step", read=items, process=process, write=text_file(folder / "out.txt"), chunk_size=2,
                  checkpoint_seconds=0), ledger=folder / "ledger.db")
assert (result.read, result.written, result.filtered) == (8, 5, 3), result
"""

MARKERS = 3


@pytest.mark.parametrize("kind", ["none", "function", "generator", "coroutine", "stream"])
def test_each_marker_kills_once_and_has_no_output(kind: str, tmp_path: Path):
    codes = [start(PROGRAM, tmp_path, kind) for _ in range(MARKERS + 1)]
    assert codes == [-9] * MARKERS + [0]
    expected = "a\nb\nc\nd\ne\n"
    assert (tmp_path / "out.txt").read_text() == (expected if kind == "none" else expected.upper())


def test_a_point_kills_at_the_hit_that_was_asked_for(tmp_path: Path):
    program = (
        "from batchwright.testing.crash_points import crash_at\n"
        "from batchwright.model.fault_points import reach\n"
        "crash_at('K9', 3)\n"
        "for number in range(5):\n"
        "    reach('K8'); print(number, flush=True); reach('K9')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9
    assert done.stdout.split() == ["0", "1", "2"]


def test_a_number_of_lines_kills_in_the_same_place_each_time(tmp_path: Path):
    program = (
        "from batchwright.testing.crash_points import crash_after\n"
        "from batchwright.model import codec\n"
        "crash_after(50)\n"
        "for number in range(1000):\n"
        "    print(number, flush=True); codec.decode(codec.encode([number]))\n"
    )
    run = [sys.executable, "-c", program]
    first, second = (subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.returncode == second.returncode == -9
    assert first.stdout == second.stdout != ""


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(DeclarationError, match="there is no such fault point; got 'K99'; they are K1, K2"):
        crash_at("K99")
    with pytest.raises(DeclarationError, match="hit must be at least 1; got 0"):
        crash_at("K1", 0)
    with pytest.raises(DeclarationError, match="lines must be at least 1; got 0"):
        crash_after(0)


def test_a_marker_that_has_killed_lets_its_item_pass(tmp_path: Path):
    process = crash_on_marker(str.upper, tmp_path)
    assert process("not a marker") == "NOT A MARKER"
    assert not list(tmp_path.iterdir()), f"nothing is left by an item that is not {CRASH}, in {os.getpid()}"


def start(program: str, *arguments: object) -> int:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT, capture_output=True, check=False
    ).returncode
