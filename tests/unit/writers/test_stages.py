"""The file beside the target: its mode, its lock, and targets that cannot be."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.writers.staging import LINES, checkpoint, opened, publish, scope, stage_in

from batchwright.model.errors import AlreadyRunningError, TargetError, WriteError
from batchwright.testing.memory_store import MemoryStore
from batchwright.testing.sink_driver import KEY
from batchwright.writers import text_file
from batchwright.writers.stages import Stage

HOLD = """
import sys
from pathlib import Path
from batchwright.testing.sink_driver import KEY
from batchwright.writers.stages import Stage
Stage(Path(sys.argv[1]), KEY).open(create=True)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_new_file_respects_the_mask_and_its_stage_is_private(tmp_path):
    before = os.umask(0o027)
    try:
        with opened(text_file(tmp_path / "out"), MemoryStore()) as sink:
            sink.write(LINES)
            assert mode_of(stage_in(tmp_path)) == 0o600
            sink.finish(checkpoint(0))
        assert mode_of(tmp_path / "out") == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_an_existing_file_keeps_its_mode(tmp_path):
    (tmp_path / "out").write_text("old")
    (tmp_path / "out").chmod(0o604)
    publish(text_file(tmp_path / "out"), LINES)
    assert mode_of(tmp_path / "out") == 0o604


def test_an_existing_file_stays_as_it_is_until_the_step_is_complete(tmp_path):
    (tmp_path / "out").write_text("old")
    with opened(text_file(tmp_path / "out"), MemoryStore()) as sink:
        sink.write(LINES)
        sink.commit(checkpoint(10), ())
        assert (tmp_path / "out").read_text() == "old"


def test_a_link_stays_and_what_it_points_at_is_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "data" / "real")
    publish(text_file(tmp_path / "out"), LINES)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "data" / "real").read_text().splitlines() == LINES


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda out: out.mkdir(), "it is a directory"),
        (os.mkfifo, "it is a device, pipe or socket"),
        (lambda out: out.symlink_to("/dev/null"), "it is a device, pipe or socket"),
        (lambda out: out.symlink_to(out), "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_is_refused_before_anything_is_written(tmp_path, make, found):
    make(tmp_path / "out")
    writer = text_file(tmp_path / "out")
    with pytest.raises(TargetError, match=found):
        writer.check()
    with opened(writer, MemoryStore()) as sink, pytest.raises(TargetError, match=found):
        sink.write(LINES)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_as_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TargetError, match=r"file.* is not a folder|Not a directory"):
        text_file(tmp_path / "file" / "out").check()


@pytest.mark.parametrize(("name", "found"), [("out", "the file is read-only"), ("new", "the folder .* is read-only")])
def test_what_is_read_only_is_refused(tmp_path, monkeypatch, name, found):
    # Root may write anywhere, so that the question itself is answered here.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (tmp_path / "out").write_text("old")
    with pytest.raises(TargetError, match=found):
        text_file(tmp_path / name).check()


def test_a_name_that_is_too_long_is_refused(tmp_path):
    writer = text_file(tmp_path / ("x" * 250))
    with pytest.raises(TargetError, match="File name too long"):
        writer.open(scope(MemoryStore())).recall()


def test_missing_folders_are_made(tmp_path):
    writer = text_file(tmp_path / "a" / "b" / "out")
    writer.check()
    publish(writer, LINES)
    assert (tmp_path / "a" / "b" / "out").exists()


@pytest.mark.parametrize("plant", ["hard link", "pipe", "link"])
def test_a_stage_planted_by_somebody_else_is_refused(tmp_path, plant):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    if plant == "hard link":
        stage_in(tmp_path).hardlink_to(victim)
    elif plant == "pipe":
        os.mkfifo(stage_in(tmp_path))
    else:
        stage_in(tmp_path).symlink_to(victim)
    with pytest.raises(TargetError):
        text_file(tmp_path / "out").open(scope(MemoryStore())).recall()
    assert victim.read_text() == "precious"


def test_a_killed_process_lets_go_of_the_stage_at_once(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        stage = Stage(tmp_path / "out", KEY)
        with pytest.raises(AlreadyRunningError):
            stage.open(create=True)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert stage.open(create=True)
        stage.close()


def test_a_child_made_by_fork_does_not_keep_the_lock_of_its_dead_parent(tmp_path):
    stage, again = Stage(tmp_path / "out", KEY), Stage(tmp_path / "out", KEY)
    stage.open(create=True)
    ready, child = forked(lambda: stage.poisoned)
    assert os.read(ready, 1) == b"1"
    with pytest.raises(AlreadyRunningError):
        again.open(create=False)
    # As the kernel does with the descriptors of a process that is killed.
    os.close(stage._descriptor)
    assert again.open(create=False)
    again.close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(ready)


def test_a_poisoned_stage_says_so(tmp_path):
    stage = Stage(tmp_path / "out", KEY)
    with pytest.raises(WriteError, match="could not be written; Bad file descriptor"):
        stage.append(b"never opened", 0)
    with pytest.raises(WriteError, match="takes no more outputs in this run"):
        stage.append(b"again", 0)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def forked(say):
    """A child that says 1 or 0, and lives until it is killed."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(told, b"1" if say() else b"0")
        signal.pause()
        os._exit(1)
    os.close(told)
    return ready, child
