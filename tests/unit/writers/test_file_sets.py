"""Sets of files: which names there may be, what a kill or a power cut leaves, and what is never replaced or removed."""

import ctypes
import errno
import json
import os
import threading
from functools import partial
from pathlib import Path

import pytest
from tests.unit.writers.staging import ForgetfulDisk, checkpoint, forget_syncs, opened, publish, scope
from tests.unit.writers.test_staged_files import failing, noting, three_bytes_at_a_time

from batchwright import Job, JobFailedError, Skip, Step, abandon, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import (
    DamagedOutputError,
    DeclarationError,
    GroundChangedError,
    NotReplayableError,
    TargetError,
    WriteError,
)
from batchwright.testing.memory_store import MemoryStore
from batchwright.testing.sink_driver import KEY, SinkDriver
from batchwright.writers import csv_file, file_set, insert, json_lines_file, stage_folders, text_file

ROWS = [{"shop": f"s{number % 3}", "id": number} for number in range(10)]

FILES = {
    "s0.csv": "shop,id\ns0,0\ns0,6\ns0,9\n",
    "s1.csv": "shop,id\ns1,1\ns1,4\n",
    "s2.csv": "shop,id\ns2,2\ns2,5\ns2,8\n",
}
"""Every fourth item fails: see SinkDriver."""


def writer(folder, **options):
    return file_set(folder / "out", file="{shop}.csv", form=csv_file, **options)


def driver_in(folder, seconds=0.0):
    folder.mkdir(parents=True)
    return SinkDriver(writer, ROWS, folder, checkpoint_seconds=seconds)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != "manifest.json"}


def stage_of(folder):
    return folder / f".out.{KEY.digest}.files"


def old_set(folder):
    publish(file_set(folder, file="old {shop}.csv", form=csv_file), ROWS[:4])


@pytest.mark.parametrize("replaces", [False, True])
def test_a_process_killed_at_any_system_call_leaves_what_the_next_one_can_go_on_from(tmp_path, monkeypatch, replaces):
    driver = driver_in(tmp_path / "target")
    if replaces:
        old_set(driver.folder / "out")
    with monkeypatch.context() as patched:
        for name in ("write", "fsync", "replace", "ftruncate", "fchmod", "open", "mkdir", "unlink", "rmdir"):
            patched.setattr(os, name, noting(driver, name, getattr(os, name)))
        patched.setattr(os, "write", three_bytes_at_a_time(os.write))
        patched.setattr(stage_folders, "exchange", noting(driver, "exchange", stage_folders.exchange))
        driver.run(3)
    moments = list(driver.moments)
    assert {moment.name for moment in moments} >= {"write", "fsync", "mkdir", "exchange" if replaces else "replace"}
    for moment in moments:
        driver.crash(moment)
        seen = contents(driver.folder / "out") if (driver.folder / "out").exists() else {}
        assert not seen or seen == FILES or (replaces and all("old" in name for name in seen)), moment.name
        driver.run(2)
        assert contents(driver.folder / "out") == FILES, moment.name
        beside = {path.name for path in driver.folder.iterdir()} - {"out"}
        assert beside <= ({".out.replaced"} if replaces else set()), moment.name


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_power_cut_around_any_save_loses_nothing_that_a_checkpoint_speaks_of(
    tmp_path, monkeypatch, seconds, replaces
):
    driver = driver_in(tmp_path / "target", seconds)
    if replaces:
        old_set(driver.folder / "out")
    disk, moments, note = ForgetfulDisk(driver.folder), [], driver._note
    for path in (driver.folder, *driver.folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        disk.fsync(descriptor)
        os.close(descriptor)

    def noting_cuts(name):
        note(name)
        if "the save" in name:
            moments.append(disk.moment(name, driver.store))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", disk.fsync)
        driver._note = noting_cuts
        driver.run(3)
        driver._note = note
    assert len(moments) >= 6
    for moment in moments:
        driver.crash(moment)
        driver.run(2)
        assert contents(driver.folder / "out") == FILES, moment.name


@pytest.mark.parametrize("forgotten", ["file", "folder"])
def test_a_sync_that_is_forgotten_would_be_seen(tmp_path, monkeypatch, forgotten):
    forget_syncs(monkeypatch, forgotten)
    with pytest.raises((DamagedOutputError, AssertionError)):
        test_a_power_cut_around_any_save_loses_nothing_that_a_checkpoint_speaks_of(tmp_path, monkeypatch, 0.0, False)


@pytest.mark.parametrize(
    ("owner", "method"),
    [(stage_folders.StageFolder, "_cut_back"), (stage_folders.StageFolder, "_manifest_digest")],
)
def test_a_bug_in_going_on_would_be_seen(tmp_path, monkeypatch, owner, method):
    monkeypatch.setattr(owner, method, lambda *_: "")
    with pytest.raises((DamagedOutputError, GroundChangedError, WriteError, AssertionError)):
        test_a_process_killed_at_any_system_call_leaves_what_the_next_one_can_go_on_from(tmp_path, monkeypatch, True)


def test_whoever_looks_meanwhile_sees_one_whole_set_and_then_the_other(tmp_path):
    folder, ended, parts, looks = tmp_path / "out", threading.Event(), [], 0

    def look():
        nonlocal looks
        while not ended.is_set():
            try:
                # The folder is found at any moment, and what is found is a whole set.
                descriptor = os.open(folder, os.O_RDONLY)
                names = {name.partition("-")[0] for name in os.listdir(descriptor)}  # noqa: PTH208 - by descriptor
                os.close(descriptor)
                whole = len(json.loads((folder / "manifest.json").read_bytes())["files"]) == 2
            except OSError as error:
                parts.append(error)
                return
            looks += 1
            if not whole or len(names) > 2:
                parts.append(names)

    def publish_turn(turn):
        publish(file_set(folder, file=f"{turn}-{{name}}.txt", form=json_lines_file), [{"name": "a"}, {"name": "b"}])

    publish_turn(0)
    watcher = threading.Thread(target=look)
    watcher.start()
    for turn in range(1, 30):
        publish_turn(turn)
    ended.set()
    watcher.join()
    assert not parts
    assert looks


def test_the_manifest_names_every_file_with_its_size_and_digest(tmp_path):
    publish(writer(tmp_path), ROWS)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["files"]] == ["s0.csv", "s1.csv", "s2.csv"]
    assert all((tmp_path / "out" / entry["name"]).stat().st_size == entry["bytes"] for entry in manifest["files"])


def test_a_set_without_outputs_is_a_folder_with_a_manifest(tmp_path):
    publish(writer(tmp_path))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]


def test_modes_are_those_of_new_files_and_the_stage_is_private(tmp_path):
    before = os.umask(0o027)
    try:
        with opened(writer(tmp_path), MemoryStore()) as sink:
            sink.write(ROWS)
            sink.commit(checkpoint(10), ())
            assert {path.stat().st_mode & 0o777 for path in stage_of(tmp_path).iterdir()} == {0o600}
            assert stage_of(tmp_path).stat().st_mode & 0o777 == 0o700
            sink.finish(checkpoint(10))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_what_cannot_be_meant_is_refused_when_it_is_built(tmp_path):
    with pytest.raises(DeclarationError, match="form must be csv_file, text_file or json_lines_file"):
        file_set(tmp_path, file="x", form=lambda path: insert("sqlite:///x.db", path))
    with pytest.raises(DeclarationError, match="file must be a name or a function"):
        file_set(tmp_path, file=7, form=csv_file)
    with pytest.raises(DeclarationError, match="most_files must be at least 1; got 0"):
        file_set(tmp_path, file="x", form=csv_file, most_files=0)
    with pytest.raises(TargetError, match="it is the root"):
        file_set("/", file="x", form=csv_file)
    with pytest.raises(DeclarationError, match="publish_if is for tables"):
        Step("write", read=[], write=writer(tmp_path), atomic=True, publish_if=bool)
    with pytest.raises(DeclarationError, match="steps 'a' and 'b' write the same"):
        Job("job", Step("a", read=[], write=writer(tmp_path)), Step("b", read=[], write=writer(tmp_path)))


def test_the_options_of_a_form_are_kept(tmp_path):
    form = partial(csv_file, delimiter=";", header=False)
    publish(file_set(tmp_path / "out", file="{shop}.csv", form=form), ROWS[:2])
    assert contents(tmp_path / "out") == {"s0.csv": "s0;0\n", "s1.csv": "s1;1\n"}


@pytest.mark.parametrize("found", ["notes.txt", "old folder/", "manifest.json"])
def test_a_folder_that_holds_anything_else_is_never_replaced(tmp_path, found):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / found).mkdir() if found.endswith("/") else (tmp_path / "out" / found).write_text("{}")
    with pytest.raises(TargetError, match="holds what no file set has put there"):
        writer(tmp_path).check()
    with opened(writer(tmp_path), MemoryStore()) as sink, pytest.raises(TargetError):
        sink.write(ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_came_into_the_old_set_meanwhile_stops_the_publishing_and_then_goes_on(tmp_path):
    old_set(tmp_path / "out")
    store = MemoryStore()
    with opened(writer(tmp_path), store) as sink:
        sink.write(ROWS)
        sink.commit(checkpoint(10), ())
        (tmp_path / "out" / "notes.txt").write_text("mine")
        with pytest.raises(TargetError, match=r"notes\.txt"):
            sink.finish(checkpoint(10))
    (tmp_path / "out" / "notes.txt").rename(tmp_path / "notes.txt")
    with opened(writer(tmp_path), store) as sink:
        sink.finish(checkpoint(10))
    assert sorted(contents(tmp_path / "out")) == ["s0.csv", "s1.csv", "s2.csv"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_manifest_that_names_files_elsewhere_removes_none_of_them(tmp_path):
    old_set(tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"].append({"name": "../precious", "bytes": 1, "sha256": ""})
    path.write_text(json.dumps(manifest))
    (tmp_path / "precious").write_text("mine")
    publish(writer(tmp_path), ROWS)
    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(contents(tmp_path / "out")) == ["s0.csv", "s1.csv", "s2.csv"]


def test_where_folders_cannot_be_exchanged_an_old_set_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    old_set(tmp_path / "out")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with (
        opened(writer(tmp_path), MemoryStore()) as sink,
        pytest.raises(TargetError, match="cannot exchange two folders"),
    ):
        sink.write(ROWS)
    publish(file_set(tmp_path / "new", file="{shop}.csv", form=csv_file), ROWS)
    assert len(contents(tmp_path / "new")) == 3


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda folder: (folder / "s1.csv").unlink(), "No such file"),
        (lambda folder: (folder / "s1.csv").write_text("s"), "holds 1 bytes, 18 are committed"),
        (lambda folder: (folder / "s1.csv").write_text("S" * 100), "somebody has changed"),
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "No such file"),
        (lambda folder: folder.with_suffix(".stage").write_text(""), "holds 0 bytes"),
        (lambda folder: folder.with_suffix(".stage").unlink(), "is gone"),
    ],
)
def test_a_stage_that_is_not_as_it_was_left_is_refused_saying_where(tmp_path, damage, found):
    store = MemoryStore()
    with opened(writer(tmp_path), store) as sink:
        sink.write(ROWS[:6])
        sink.commit(checkpoint(6), ())
    damage(stage_of(tmp_path))
    with pytest.raises(DamagedOutputError, match=found):
        writer(tmp_path).open(scope(store)).recall()


def test_a_published_set_that_somebody_has_changed_is_not_called_complete(tmp_path):
    store = MemoryStore()
    publish(writer(tmp_path), ROWS, store=store)
    for change, found in (
        (lambda out: (out / "s1.csv").write_text("x"), "s1.csv holds 1 bytes instead of 23"),
        (lambda out: (out / "s1.csv").unlink(), "s1.csv is gone"),
        (lambda out: (out / "manifest.json").unlink(), "manifest.json is gone"),
        (lambda out: out.rename(tmp_path / "elsewhere"), "it is gone"),
    ):
        change(tmp_path / "out")
        with pytest.raises(GroundChangedError, match=found):
            writer(tmp_path).open(scope(store)).recall()


def test_a_foreign_file_in_the_stage_is_never_published(tmp_path):
    with opened(writer(tmp_path), MemoryStore()) as sink:
        sink.write(ROWS)
        sink.commit(checkpoint(10), ())
        (stage_of(tmp_path) / "smuggled.csv").write_text("x")
        with pytest.raises(DamagedOutputError, match=r"smuggled\.csv"):
            sink.finish(checkpoint(10))


def test_a_link_in_the_place_of_the_stage_is_refused_and_what_it_names_is_left_alone(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    stage_of(tmp_path).symlink_to(tmp_path / "precious")
    with opened(writer(tmp_path), MemoryStore()) as sink, pytest.raises(TargetError, match="not a stage of ours"):
        sink.write(ROWS)
    assert (tmp_path / "precious" / "file").read_text() == "mine"


def test_after_a_failed_sync_nothing_is_tried_again_and_the_next_run_is_whole(tmp_path, monkeypatch):
    store, syncs = MemoryStore(), []
    with opened(writer(tmp_path), store) as sink:
        sink.write(ROWS[:5])
        sink.commit(checkpoint(5), ())
        sink.write(ROWS[5:])
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing(errno.EIO, syncs))
            with pytest.raises(WriteError, match="Input/output error"):
                sink.commit(checkpoint(10), ())
            with pytest.raises(WriteError):
                sink.finish(checkpoint(10))
    assert len(syncs) == 1
    with opened(writer(tmp_path), store) as sink:
        sink.write(ROWS[5:])
        sink.commit(checkpoint(10), ())
        sink.finish(checkpoint(10))
    assert sum(map(len, map(str.splitlines, contents(tmp_path / "out").values()))) == 10 + 3


def test_files_held_open_are_bounded_and_each_is_synced_before_it_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(stage_folders, "OPEN_FILES", 4)
    most, store = 0, MemoryStore()
    numbers = [str(number % 20) for number in range(200)]
    with opened(file_set(tmp_path / "out", file=lambda line: f"{line}.txt", form=text_file), store) as sink:
        for start in range(0, 200, 10):
            sink.write(numbers[start : start + 10])
            sink.commit(checkpoint(start + 10), ())
            held = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
            most = max(most, sum(".files/" in path for path in held))
        assert len(json.dumps(store.load_checkpoint(KEY).state)) < 400
        sink.finish(checkpoint(200))
    assert most == 4
    assert contents(tmp_path / "out") == {f"{name}.txt": f"{name}\n" * 10 for name in map(str, range(20))}


def test_nothing_is_replayed_into_a_published_set(tmp_path):
    store = MemoryStore()
    publish(writer(tmp_path), ROWS, store=store)
    with opened(writer(tmp_path), store) as sink, pytest.raises(NotReplayableError, match="published as a whole"):
        sink.amend(store.load_checkpoint(KEY))


def test_one_file_too_many_stops_the_step(tmp_path):
    step = Step("write", read=ROWS, write=writer(tmp_path, most_files=2), skip=Skip(on=Exception))
    with pytest.raises(JobFailedError, match="would have more than 2 files"):
        run(step, ledger=MemoryLedger())
    assert not (tmp_path / "out").exists()


def test_work_that_is_given_up_leaves_no_stage_and_the_old_set(tmp_path):
    old_set(tmp_path / "out")
    before = contents(tmp_path / "out")

    def fails(row):
        if row["id"] == 7:
            raise ValueError("no")
        return row

    step = Step("write", read=ROWS, process=fails, write=writer(tmp_path), chunk_size=2)
    result = run(step, ledger=tmp_path / "l" / "ledger.db", check=False)
    assert any(path.suffix == ".files" for path in tmp_path.iterdir())
    abandon(result.run, ledger=tmp_path / "l" / "ledger.db", job=Job("write", step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l", "out"]
    assert contents(tmp_path / "out") == before
