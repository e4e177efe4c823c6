"""Run one page's blocks in the working folder, in order: `python run_page.py PAGE`. Exit code 1 at the first mistake.

The one rule: what a reader would see go wrong goes wrong here, with the page and line in front.
"""

import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.docs.pages import RUNNABLE, Block, Command, blocks, commands, missing_line

TIMEOUT_SECONDS = 120


def main(page: Path) -> int:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        wrong = run_block(block, namespace)
        if wrong:
            sys.stderr.write(f"{page}:{block.line}: {wrong}\n")
            return 1
    return 0


def run_block(block: Block, namespace: dict[str, Any]) -> str:
    if block.file:
        Path(block.file).parent.mkdir(parents=True, exist_ok=True)
        Path(block.file).write_text(block.text)
    elif block.reason or block.language not in RUNNABLE:
        pass
    elif block.language == "python":
        return run_python(block, namespace)
    elif block.language == "bash":
        return run_command(Command(block.text.strip()))
    else:
        return next(filter(None, map(run_command, commands(block))), "")
    return ""


def run_python(block: Block, namespace: dict[str, Any]) -> str:
    """Run it in the namespace of the page, as a file of its own: a job's origin must have a source."""
    path = Path(f"example_{block.line}.py").resolve()
    path.write_text(block.text)
    try:
        exec(compile(block.text, str(path), "exec"), namespace)  # noqa: S102 - running the page is the purpose
    except BaseException:
        return traceback.format_exc()
    return ""


def run_command(command: Command) -> str:
    if command.installs or command.make_targets:
        return ""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.text],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    # As a shell says it: bash hands its process over to a single command, and a signal then shows as a negative number.
    exit_code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    if exit_code != command.exit_code:
        return f"$ {command.text}\nexit code {exit_code}, not {command.exit_code}:\n{done.stdout}"
    missing = missing_line(command.shown, done.stdout)
    return f"$ {command.text}\nthe page shows this line:\n  {missing}\nthe output is:\n{done.stdout}" if missing else ""


def environment() -> dict[str, str]:
    """A terminal as a new reader has it, with this environment's commands first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATCHWRIGHT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**kept, "PATH": path, "NO_COLOR": "1", "COLUMNS": "120", "HOME": str(Path.cwd())}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
