import fcntl
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from batchwright.ledgers.locks import hold, is_held
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import AlreadyRunningError, LedgerError

KEY = InstanceKey("daily-sales", "0123abcd")

HEAD = """
import os, sys
from pathlib import Path
from batchwright.ledgers.locks import hold
from batchwright.model.checkpoint import InstanceKey
from batchwright.model.errors import AlreadyRunningError
folder, key = Path(sys.argv[1]), InstanceKey("daily-sales", "0123abcd")
def say(word):
    print(word, flush=True)
"""

HOLDER = HEAD + "with hold(folder, key): say('owner'); sys.stdin.read()"

CONTENDER = HEAD + (
    "for number in sys.stdin:\n"
    "    try:\n"
    "        with hold(folder, InstanceKey('race', number.strip()), wait_seconds=0):\n"
    "            say('won')\n"
    "            sys.stdin.readline()\n"
    "    except AlreadyRunningError:\n"
    "        say('lost')\n"
    "        sys.stdin.readline()\n"
)

FORKING_HOLDER = HEAD + (
    "with hold(folder, key):\n"
    "    orphan = os.fork()\n"
    "    if orphan == 0:\n"
    "        os.close(1)\n"
    "        sys.stdin.read()\n"  # lives until the test lets it go
    "        sys.exit()\n"  # leaves the inherited context, too
    "    say('owner')\n"
    "    os.waitpid(orphan, 0)\n"
)

HOLDER_WITH_A_SHORT_LIVED_CHILD = HEAD + (
    "with hold(folder, key):\n"
    "    child = os.fork()\n"
    "    if child == 0:\n"
    "        sys.exit()\n"
    "    os.waitpid(child, 0)\n"
    "    say('owner')\n"
    "    sys.stdin.read()\n"
)

EXECUTING_HOLDER = HEAD + (
    "import subprocess\n"
    "with hold(folder, key):\n"
    "    child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdout=subprocess.DEVNULL)\n"
    "    say('owner')\n"
    "    child.wait()\n"
)


@pytest.fixture
def start(tmp_path):
    started = []

    def starting(program):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield starting
    for process in started:
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()


def is_free(folder):
    try:
        with hold(folder, KEY, wait_seconds=0):
            return True
    except AlreadyRunningError:
        return False


def test_a_lock_is_held_exactly_as_long_as_its_context(tmp_path):
    assert not is_held(tmp_path, KEY)
    with hold(tmp_path, KEY):
        assert is_held(tmp_path, KEY)
        assert not is_free(tmp_path)
    assert not is_held(tmp_path, KEY)
    assert is_free(tmp_path)


def test_the_refusal_names_the_process_the_host_and_since_when(tmp_path, start):
    holder = start(HOLDER)
    assert holder.stdout.readline() == "owner\n"
    with pytest.raises(AlreadyRunningError) as caught, hold(tmp_path, KEY, wait_seconds=0):
        pass
    assert caught.value.exit_code == 4
    assert caught.value.where == f"process {holder.pid} on {os.uname().nodename}"
    assert abs(datetime.now(UTC) - caught.value.since) < timedelta(minutes=1)


def test_a_holder_that_has_not_yet_said_who_it_is_is_refused_all_the_same(tmp_path):
    with hold(tmp_path, KEY):
        side_file = tmp_path / f"{KEY.digest}.json"
        for text in ('{"pid": 1}', "", "no JSON", "[]"):
            side_file.write_text(text)
            with pytest.raises(AlreadyRunningError, match="another process"), hold(tmp_path, KEY, wait_seconds=0):
                pass
        side_file.unlink()
        with pytest.raises(AlreadyRunningError, match="another process"), hold(tmp_path, KEY, wait_seconds=0):
            pass


def test_a_killed_holder_frees_its_lock_at_once(tmp_path, start):
    holder = start(HOLDER)
    assert holder.stdout.readline() == "owner\n"
    assert not is_free(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_held(tmp_path, KEY)
    assert is_free(tmp_path)


def test_a_stopped_holder_keeps_its_lock(tmp_path, start):
    holder = start(HOLDER)
    assert holder.stdout.readline() == "owner\n"
    holder.send_signal(signal.SIGSTOP)
    assert is_held(tmp_path, KEY)


@pytest.mark.parametrize("program", [FORKING_HOLDER, EXECUTING_HOLDER], ids=["forked", "executed"])
def test_an_orphan_does_not_keep_the_lock_of_its_killed_parent(tmp_path, start, program):
    holder = start(program)
    assert holder.stdout.readline() == "owner\n"
    assert is_held(tmp_path, KEY)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    # Waits a little, as every start does: a child that was forked this instant has yet to close what it inherited.
    with hold(tmp_path, KEY):
        pass


def test_a_forked_child_that_leaves_the_context_does_not_free_the_lock_of_its_parent(tmp_path, start):
    holder = start(HOLDER_WITH_A_SHORT_LIVED_CHILD)
    assert holder.stdout.readline() == "owner\n"
    assert is_held(tmp_path, KEY)
    assert (tmp_path / f"{KEY.digest}.json").exists()


def test_of_eight_that_start_at_once_exactly_one_wins_in_every_round(start):
    contenders = [start(CONTENDER) for _ in range(8)]
    for number in range(50):
        tell(contenders, f"{number}\n")
        words = [contender.stdout.readline() for contender in contenders]
        assert sorted(words) == ["lost\n"] * 7 + ["won\n"], f"round {number}"
        tell(contenders, "next\n")


def tell(processes, line):
    for process in processes:
        process.stdin.write(line)
        process.stdin.flush()


def test_somebody_who_only_looks_does_not_keep_a_start_away(tmp_path, monkeypatch):
    with hold(tmp_path, KEY):
        pass
    looking = os.open(tmp_path / f"{KEY.digest}.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    pauses = []
    monkeypatch.setattr("time.sleep", lambda _seconds: pauses.append(1) or (len(pauses) == 3 and os.close(looking)))
    with hold(tmp_path, KEY):
        assert len(pauses) == 3


def test_two_who_look_at_once_do_not_take_each_other_for_an_owner(tmp_path):
    with hold(tmp_path, KEY):
        pass
    looking = os.open(tmp_path / f"{KEY.digest}.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert not is_held(tmp_path, KEY)
    os.close(looking)


def test_lock_files_stay_and_are_private_and_side_files_go(tmp_path):
    folder = tmp_path / "locks"
    with hold(folder, KEY):
        assert json.loads((folder / f"{KEY.digest}.json").read_text())["pid"] == os.getpid()
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        assert modes == {f"{KEY.digest}.lock": 0o600, f"{KEY.digest}.json": 0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.iterdir()] == [f"{KEY.digest}.lock"]


def test_descriptors_are_given_back(tmp_path):
    before = len(list(Path("/dev/fd").iterdir()))
    with hold(tmp_path, KEY):
        for _ in range(3):
            assert not is_free(tmp_path)
            assert is_held(tmp_path, KEY)
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_folder_that_cannot_hold_locks_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "locks").write_text("a file")
    with (
        pytest.raises(LedgerError, match=r"no lock can be taken in .*BATCHWRIGHT_LEDGER"),
        hold(tmp_path / "locks", KEY),
    ):
        pass
