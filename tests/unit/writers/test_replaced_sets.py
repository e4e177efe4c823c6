"""What becomes of the file set that a new one replaces."""

import os

from tests.unit.writers.test_file_sets import publish

from batchwright.writers import file_set, json_lines_file


def test_who_has_opened_the_old_folder_goes_on_reading_it_until_the_next_run_writes(tmp_path):
    folder = tmp_path / "out"

    def publish_turn(turn):
        publish(file_set(folder, file=f"{turn}-{{name}}.txt", form=json_lines_file), [{"name": "a"}])

    publish_turn(1)
    descriptor = os.open(folder, os.O_RDONLY)
    publish_turn(2)
    assert sorted(os.listdir(descriptor)) == ["1-a.txt", "manifest.json"]  # noqa: PTH208 - by descriptor
    assert sorted(path.name for path in folder.iterdir()) == ["2-a.txt", "manifest.json"]
    kept = tmp_path / ".out.replaced"
    assert (kept / "1-a.txt").read_text()
    publish_turn(3)
    assert os.listdir(descriptor) == []  # noqa: PTH208 - by descriptor
    os.close(descriptor)
    assert sorted(path.name for path in kept.iterdir()) == ["2-a.txt", "manifest.json"]


def test_what_stands_in_the_place_of_the_old_set_and_is_not_ours_is_left_alone(tmp_path):
    folder, theirs = tmp_path / "out", tmp_path / ".out.replaced"
    publish(file_set(folder, file="1.txt", form=json_lines_file), [{"name": "a"}])
    theirs.mkdir()
    (theirs / "mine.txt").write_text("mine")
    publish(file_set(folder, file="2.txt", form=json_lines_file), [{"name": "a"}])
    assert [path.name for path in theirs.iterdir()] == ["mine.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.replaced", "out"]
