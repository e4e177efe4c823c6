"""The sink that all file writers share: what is durable when, and what is said when it cannot be."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.writers.staging import (
    LINES,
    ForgetfulDisk,
    checkpoint,
    driver_in,
    forget_syncs,
    opened,
    publish,
    scope,
    stage_in,
)

from batchwright.model.checkpoint import Checkpoint
from batchwright.model.errors import (
    AlreadyRunningError,
    DamagedOutputError,
    FencedError,
    GroundChangedError,
    LedgerError,
    WriteError,
)
from batchwright.model.guarantee import Fault
from batchwright.testing.fake_clock import FakeClock
from batchwright.testing.memory_store import MemoryStore
from batchwright.testing.sink_driver import KEY
from batchwright.writers import csv_file, staged_files, text_file

WHOLE = "".join(f"{line}\n" for number, line in enumerate(LINES) if number % 4 != 3).encode()


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_process_killed_at_any_system_call_leaves_what_the_next_one_can_go_on_from(tmp_path, monkeypatch, seconds):
    driver = driver_in(tmp_path / "target", checkpoint_seconds=seconds)
    with monkeypatch.context() as patched:
        for name in ("write", "fsync", "replace", "ftruncate", "fchmod", "open", "close"):
            patched.setattr(os, name, noting(driver, name, getattr(os, name)))
        patched.setattr(os, "write", three_bytes_at_a_time(os.write))
        driver.run(3)
    moments = list(driver.moments)
    assert {moment.name for moment in moments} >= {"write", "fsync", "replace", "fchmod"}
    for moment in moments:
        driver.crash(moment)
        driver.run(2)
        assert (driver.folder / "out").read_bytes() == WHOLE, moment.name
        assert [path.name for path in driver.folder.iterdir()] == ["out"], moment.name


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_power_cut_around_any_save_loses_nothing_that_a_checkpoint_speaks_of(tmp_path, monkeypatch, seconds):
    moments = power_cuts(tmp_path, monkeypatch, seconds)
    assert len(moments) >= 6
    for driver, moment in moments:
        driver.crash(moment)
        driver.run(2)
        assert (driver.folder / "new" / "out").read_bytes() == WHOLE, moment.name


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_a_sync_that_is_forgotten_would_be_seen(tmp_path, monkeypatch, forgotten):
    forget_syncs(monkeypatch, forgotten)
    with pytest.raises((DamagedOutputError, AssertionError)):
        test_a_power_cut_around_any_save_loses_nothing_that_a_checkpoint_speaks_of(tmp_path, monkeypatch, 0.0)


def test_what_follows_the_last_durable_checkpoint_is_cut_off(tmp_path):
    store, clock = MemoryStore(), FakeClock()
    sink = text_file(tmp_path / "out").open(scope(store, clock, 1.0))
    sink.recall()
    for ordinal, pause in ((1, 0.5), (2, 0.5), (3, 0.0)):
        sink.write([LINES[ordinal - 1]])
        clock.advance(pause)
        sink.commit(checkpoint(ordinal), ())
    assert store.load_checkpoint(KEY).position.ordinal == 2
    kept = store.copy()
    assert stage_in(tmp_path).read_bytes() == b"line 0\nline 1\nline 2\n"
    sink.close()
    with opened(text_file(tmp_path / "out"), kept) as again:
        assert again.recall().position.ordinal == 2
        assert stage_in(tmp_path).read_bytes() == b"line 0\nline 1\n"


@pytest.mark.parametrize("end", ["flush", "close"])
def test_an_early_end_makes_every_commit_durable(tmp_path, end):
    store = MemoryStore()
    sink = text_file(tmp_path / "out").open(scope(store, seconds=60.0))
    sink.recall()
    sink.write(LINES[:2])
    sink.commit(checkpoint(2), ())
    assert store.load_checkpoint(KEY) is None
    getattr(sink, end)()
    assert store.load_checkpoint(KEY).position.ordinal == 2
    sink.close()


def test_the_order_is_bytes_then_sync_then_checkpoint(tmp_path, monkeypatch):
    calls = []

    class Store(MemoryStore):
        def save_checkpoint(self, key, checkpoint, failures):
            calls.append(f"save {checkpoint.state['phase']}")
            super().save_checkpoint(key, checkpoint, failures)

    for name in ("write", "fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (calls.append(name), real(*given))[1])
    monkeypatch.setattr(staged_files, "reach", calls.append)
    publish(text_file(tmp_path / "out"), LINES[:1], LINES[1:], store=Store())
    assert calls == [
        *("write", "fsync", "fsync", "K14", "save writing"),
        *("write", "fsync", "K14", "save writing"),
        *("fsync", "K14", "save prepared", "replace", "K15", "fsync", "K16", "save published"),
    ]


def test_after_a_failed_sync_nothing_is_tried_again_and_the_next_run_is_whole(tmp_path, monkeypatch):
    syncs = []
    store = MemoryStore()
    with opened(text_file(tmp_path / "out"), store) as sink:
        sink.write(LINES[:3])
        sink.commit(checkpoint(3), ())
        monkeypatch.setattr(os, "fsync", failing(errno.EIO, syncs))
        sink.write(LINES[3:6])
        with pytest.raises(WriteError, match=r"\.stage could not be synced; Input/output error") as raised:
            sink.commit(checkpoint(6), ())
        assert sink.classify(raised.value) is Fault.FATAL
        sink.rollback()
        for refused in (
            lambda: sink.write(["more"]),
            lambda: sink.commit(checkpoint(7), ()),
            lambda: sink.finish(checkpoint(7)),
        ):
            with pytest.raises(WriteError, match="an earlier write to it failed"):
                refused()
    assert len(syncs) == 1
    monkeypatch.undo()
    with opened(text_file(tmp_path / "out"), store) as sink:
        assert sink.recall().position.ordinal == 3
        sink.write(LINES[3:])
        sink.commit(checkpoint(10), ())
        sink.finish(checkpoint(10))
    assert (tmp_path / "out").read_text().splitlines() == LINES


def test_a_full_disk_is_named_with_its_free_space(tmp_path, monkeypatch):
    store = MemoryStore()
    with opened(text_file(tmp_path / "out"), store) as sink:
        sink.write(LINES)
        monkeypatch.setattr(os, "write", failing(errno.ENOSPC, []))
        with pytest.raises(
            WriteError, match=r"out.*could not be written; No space left.*, [\d,]+ bytes are free there"
        ):
            sink.commit(checkpoint(10), ())
    assert store.load_checkpoint(KEY) is None


def test_nothing_of_a_commit_that_failed_becomes_durable_later(tmp_path):
    class Store(MemoryStore):
        broken = True

        def save_checkpoint(self, key, checkpoint, failures):
            if self.broken:
                raise LedgerError("the ledger is locked")
            super().save_checkpoint(key, checkpoint, failures)

    store = Store()
    with opened(text_file(tmp_path / "out"), store) as sink:
        sink.write(LINES[:3])
        with pytest.raises(LedgerError):
            sink.commit(checkpoint(3), ())
        store.broken = False
        sink.flush()
        with pytest.raises(WriteError, match="an earlier chunk failed"):
            sink.write(LINES[3:])
    assert store.load_checkpoint(KEY) is None


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda stage: stage.unlink(), r"is gone, 21 bytes of it are committed"),
        (lambda stage: stage.write_bytes(b"line 0\n"), r"holds 7 bytes, 21 are committed"),
        (
            lambda stage: stage.write_bytes(b"line 0\nlYne 1\nline 2\n"),
            r"somebody has changed .* between bytes 0 and 21",
        ),
    ],
)
def test_a_stage_that_is_not_as_it_was_left_is_refused_saying_where(tmp_path, damage, found):
    store = begun(tmp_path)
    damage(stage_in(tmp_path))
    with pytest.raises(DamagedOutputError, match=found), opened(text_file(tmp_path / "out"), store):
        pass


def test_a_stage_without_a_checkpoint_is_begun_anew(tmp_path):
    stage_in(tmp_path).write_bytes(b"left by a run that never came to a checkpoint\n")
    publish(text_file(tmp_path / "out"), LINES)
    assert (tmp_path / "out").read_text().splitlines() == LINES


def test_a_stage_taken_away_during_the_run_is_noticed_at_the_next_sync(tmp_path):
    with opened(text_file(tmp_path / "out"), MemoryStore()) as sink:
        sink.write(LINES)
        stage_in(tmp_path).unlink()
        with pytest.raises(DamagedOutputError, match="no longer the file that is being written"):
            sink.commit(checkpoint(10), ())


def test_a_stage_that_somebody_else_has_written_to_is_not_published(tmp_path):
    with opened(text_file(tmp_path / "out"), MemoryStore()) as sink:
        sink.write(LINES)
        sink.commit(checkpoint(10), ())
        with stage_in(tmp_path).open("ab") as file:
            file.write(b"intruder\n")
        with pytest.raises(DamagedOutputError, match="not published"):
            sink.finish(checkpoint(10))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [(lambda out: out.unlink(), "it is gone"), (lambda out: out.write_text("short"), "it holds 5 bytes instead of 70")],
)
def test_complete_is_only_said_of_a_target_that_is_there(tmp_path, change, found):
    store = MemoryStore()
    publish(text_file(tmp_path / "out"), LINES, store=store)
    change(tmp_path / "out")
    with pytest.raises(GroundChangedError, match=f"{found}.*--again"), opened(text_file(tmp_path / "out"), store):
        pass


def test_prepared_and_renamed_is_published(tmp_path):
    store = prepared(tmp_path)
    stage_in(tmp_path).rename(tmp_path / "out")
    with opened(text_file(tmp_path / "out"), store) as sink:
        assert sink.recall().finished
    assert store.load_checkpoint(KEY).finished


def test_prepared_with_its_stage_is_published_again_over_an_equal_target(tmp_path):
    store = prepared(tmp_path)
    (tmp_path / "out").write_bytes(stage_in(tmp_path).read_bytes())
    with opened(text_file(tmp_path / "out"), store) as sink:
        assert not sink.recall().finished
        sink.finish(checkpoint(10))
    assert not stage_in(tmp_path).exists()


def test_prepared_with_neither_stage_nor_target_is_refused(tmp_path):
    store = prepared(tmp_path)
    stage_in(tmp_path).unlink()
    (tmp_path / "out").write_bytes(b"x" * 70)
    with pytest.raises(DamagedOutputError, match="is gone"), opened(text_file(tmp_path / "out"), store):
        pass


def test_a_finished_sink_takes_nothing_more(tmp_path):
    with opened(text_file(tmp_path / "out"), MemoryStore()) as sink:
        sink.finish(checkpoint(0))
        with pytest.raises(WriteError, match="it is published"):
            sink.write(["late"])


def test_a_sink_whose_step_was_written_by_somebody_else_meanwhile_is_fenced(tmp_path):
    store = MemoryStore()
    with opened(text_file(tmp_path / "out"), store) as late:
        publish(text_file(tmp_path / "out"), LINES, store=store)
        with pytest.raises(FencedError, match="step 'write'"):
            late.write(["twice"])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_stage_is_locked_while_a_sink_lives(tmp_path):
    store = begun(tmp_path)
    with opened(text_file(tmp_path / "out"), store):
        with pytest.raises(AlreadyRunningError, match=r"another process holds .*\.stage"):
            text_file(tmp_path / "out").open(scope(store)).recall()
        other = replace(KEY, lap=2)
        with opened(text_file(tmp_path / "out"), store, key=other) as sink:
            sink.write(["another lap has another stage"])


def test_another_form_of_the_same_file_is_refused(tmp_path):
    store = MemoryStore()
    with opened(csv_file(tmp_path / "out"), store) as sink:
        sink.write([{"id": 1}])
        sink.commit(checkpoint(1), ())
    changed = csv_file(tmp_path / "out", delimiter=";")
    with pytest.raises(GroundChangedError, match="CSV utf-8 ',' with header and is now CSV utf-8 ';'"):
        changed.open(scope(store)).recall()


def begun(folder: Path) -> MemoryStore:
    store = MemoryStore()
    with opened(text_file(folder / "out"), store) as sink:
        sink.write(LINES[:3])
        sink.commit(checkpoint(3), ())
    return store


def prepared(folder: Path) -> MemoryStore:
    """As a crash between the prepared state and the rename leaves it."""

    class Killed(BaseException):
        pass

    class Store(MemoryStore):
        def save_checkpoint(self, key: object, checkpoint: Checkpoint, failures: object) -> None:
            super().save_checkpoint(key, checkpoint, failures)
            if checkpoint.state["phase"] == "prepared":
                raise Killed

    store = Store()
    with pytest.raises(Killed):
        publish(text_file(folder / "out"), LINES, store=store)
    return store.copy()


def power_cuts(tmp_path, monkeypatch, seconds):
    """A run into a folder that is made on the way, and what a power cut before and after each save leaves."""
    driver = driver_in(tmp_path / "target", checkpoint_seconds=seconds)
    driver._make_writer = lambda folder: text_file(folder / "new" / "out")
    disk = ForgetfulDisk(driver.folder)
    moments = []
    note = driver._note

    def noting_cuts(name):
        note(name)
        if "the save" in name:
            moments.append((driver, disk.moment(name, driver.store)))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", disk.fsync)
        driver._note = noting_cuts
        driver.run(3)
        driver._note = note
    return moments


def noting(driver, name, real):
    def noted(*given, **named):
        # Looking at the folder opens files, too.
        if not driver.__dict__.setdefault("looking", False):
            driver.looking = True
            driver._note(name)
            driver.looking = False
        return real(*given, **named)

    return noted


def three_bytes_at_a_time(write):
    return lambda descriptor, data: write(descriptor, data[:3])


def failing(number, calls):
    def fail(*given):
        calls.append(given)
        raise OSError(number, os.strerror(number))

    return fail
