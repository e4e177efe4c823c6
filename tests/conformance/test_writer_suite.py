"""The writers' suite catches planted bugs: each of these makes at least one of its tests fail."""

import fcntl
from pathlib import Path

import pytest
from tests.conformance.test_writers import TestEach as EachTests
from tests.conformance.test_writers import TestTextFile as TextFileTests

from batchwright.writers.functions import EachSink, FunctionSink
from batchwright.writers.staged_files import StagedSink
from batchwright.writers.stages import Stage


def appends_behind_what_a_crash_left(monkeypatch):
    def append(stage, data, at):
        honest(stage, data, stage.size())

    honest = Stage.append
    monkeypatch.setattr(Stage, "append", append)
    monkeypatch.setattr(Stage, "truncate", lambda stage, length: None)


def checkpoint_ahead_of_the_bytes(monkeypatch):
    def commit(sink, checkpoint, failures):
        sink._volatile = checkpoint
        sink._failures.extend(failures)
        sink._save(checkpoint, sink._state())
        honest(sink, checkpoint, ())

    honest = StagedSink.commit
    monkeypatch.setattr(StagedSink, "commit", commit)


def failures_apart_from_the_checkpoint(monkeypatch):
    def commit(sink, checkpoint, failures):
        if failures and sink._stored is not None:
            sink._scope.store.save_checkpoint(sink._scope.key, sink._stored, failures)
        honest(sink, checkpoint, failures)

    honest = StagedSink.commit
    monkeypatch.setattr(StagedSink, "commit", commit)


def failures_not_kept(monkeypatch):
    honest = StagedSink.commit
    monkeypatch.setattr(StagedSink, "commit", lambda sink, checkpoint, failures: honest(sink, checkpoint, ()))


def published_without_being_prepared(monkeypatch):
    def finish(sink, checkpoint):
        sink._begin()
        sink._stage.replace_target()
        sink._prepared = {**sink._state(), "sha256": ""}
        sink._mark_published(checkpoint)

    monkeypatch.setattr(StagedSink, "finish", finish)


def rollback_does_nothing(monkeypatch):
    monkeypatch.setattr(StagedSink, "rollback", lambda sink: None)


def no_lock_and_no_fence(monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    monkeypatch.setattr(StagedSink, "_refuse_if_moved", lambda sink: None)


def opened_too_early(monkeypatch):
    honest = Stage.open
    monkeypatch.setattr(Stage, "open", lambda stage, *, create: honest(stage, create=True))


def finished_mark_forgotten(monkeypatch):
    monkeypatch.setattr(FunctionSink, "finish", lambda sink, checkpoint: None)


def checkpoint_before_the_call(monkeypatch):
    def write(sink, outputs):
        sink.held = outputs

    def commit(sink, checkpoint, failures):
        sink._scope.store.save_checkpoint(sink._scope.key, checkpoint, failures)
        honest(sink, sink.__dict__.pop("held", ()))

    honest = EachSink.write
    monkeypatch.setattr(EachSink, "write", write)
    monkeypatch.setattr(EachSink, "commit", commit)


@pytest.mark.parametrize("suite", [TextFileTests, EachTests])
def test_an_honest_writer_passes(tmp_path, suite):
    assert failing_tests(suite, tmp_path) == []


@pytest.mark.parametrize(
    ("plant", "suite"),
    [
        (appends_behind_what_a_crash_left, TextFileTests),
        (checkpoint_ahead_of_the_bytes, TextFileTests),
        (failures_apart_from_the_checkpoint, TextFileTests),
        (failures_not_kept, TextFileTests),
        (published_without_being_prepared, TextFileTests),
        (rollback_does_nothing, TextFileTests),
        (no_lock_and_no_fence, TextFileTests),
        (opened_too_early, TextFileTests),
        (finished_mark_forgotten, EachTests),
        (checkpoint_before_the_call, EachTests),
    ],
)
def test_a_planted_bug_is_caught(tmp_path, monkeypatch, plant, suite):
    plant(monkeypatch)
    assert failing_tests(suite, tmp_path)


def failing_tests(suite: type, folder: Path) -> list[str]:
    failing = []
    for name in dir(suite):
        if name.startswith("test_"):
            (folder / name).mkdir(parents=True)
            try:
                getattr(suite(), name)(folder / name)
            except Exception:
                failing.append(name)
    return failing
