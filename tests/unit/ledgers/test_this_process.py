"""Whether the process of a mark is dead."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchwright.ledgers.this_process import is_dead, process_mark

pytestmark = pytest.mark.skipif(not process_mark(), reason="this system does not say when a process began")


def mark_of_a_child(child: subprocess.Popen[bytes]) -> str:
    boot, namespace, _, _ = process_mark().split()
    started = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot} {namespace} {child.pid} {started}"


@pytest.fixture
def child():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


def test_this_process_lives():
    assert not is_dead(process_mark())


def test_a_process_lives_until_it_is_killed_even_before_its_parent_has_noticed(child):
    mark = mark_of_a_child(child)
    assert not is_dead(mark)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_dead(mark)
    child.wait()
    assert is_dead(mark)


def test_a_stopped_process_lives(child):
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert not is_dead(mark_of_a_child(child))


def test_another_process_with_the_same_number_is_another():
    boot, namespace, pid, started = process_mark().split()
    assert is_dead(f"{boot} {namespace} {pid} {int(started) - 1}")


@pytest.mark.parametrize("mark", ["", "nonsense", "another-boot pid:[1] 1 1"])
def test_what_cannot_be_told_is_taken_for_alive(mark):
    assert not is_dead(mark)


def test_a_process_of_another_namespace_or_boot_cannot_be_told():
    boot, namespace, _, started = process_mark().split()
    assert not is_dead(f"{boot} pid:[1] 4194305 {started}")
    assert not is_dead(f"before {namespace} 4194305 {started}")
    assert is_dead(f"{boot} {namespace} 4194305 {started}")
