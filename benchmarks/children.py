"""Run a subject in a fresh child process and measure it from outside.

The one rule: CPU time and peak memory are what the kernel counted for the whole child, interpreter included.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUBJECTS = Path(__file__).with_name("subjects.py")


@dataclass(frozen=True, slots=True)
class Measured:
    """One child: CPU seconds (user and system), peak memory, and its answer."""

    cpu_seconds: float
    peak_megabytes: float
    answer: dict[str, Any]


def measure(subject: str, **arguments: Any) -> Measured:
    """Run a subject. Raises SystemExit with its error output if it fails."""
    return _measure([sys.executable, str(SUBJECTS), subject, json.dumps(arguments)])


def measure_code(code: str) -> Measured:
    """Run some Python code instead."""
    return _measure([sys.executable, "-c", code])


def _measure(command: list[str]) -> Measured:
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"benchmark: {' '.join(command[2:4])} ended with {child.returncode}")
    answer = json.loads(output or "{}")
    # A child's ru_maxrss begins at what its parent held; it is asked itself, where the system can tell.
    peak = answer.pop("peak_megabytes", usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10))
    return Measured(usage.ru_utime + usage.ru_stime, peak, answer)
