"""Which names the files of a set may have."""

import pytest
from tests.unit.writers.test_file_sets import contents

from batchwright import Skip, Step, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import DeclarationError
from batchwright.writers import csv_file, file_set, json_lines_file


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "/etc/x", "a/b", ".hidden", "a\0b", "a\nb", "manifest.json", "Manifest.JSON", "x" * 256],
)
def test_a_name_that_leaves_the_folder_is_its_outputs_failure(tmp_path, name):
    writing = file_set(tmp_path / "out", file=lambda row: row["name"], form=json_lines_file)
    step = Step("write", read=[{"name": "good"}, {"name": name}], write=writing, skip=Skip(on=ValueError))
    result = run(step, ledger=MemoryLedger())
    assert (result.written, result.failed) == (1, 1)
    assert sorted(contents(tmp_path / "out")) == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("output", [{"other": 1}, {"shop": None}, 7])
def test_an_output_without_the_field_that_names_its_file_is_a_failure(tmp_path, output):
    writing = file_set(tmp_path / "out", file="{shop}.jsonl", form=json_lines_file)
    result = run(Step("write", read=[output], write=writing, skip=Skip(on=ValueError)), ledger=MemoryLedger())
    assert result.failed == 1


@pytest.mark.parametrize(
    "name",
    ["", "/{shop}", "../{shop}", "a/{shop}", ".{shop}", "{}", "{0}", "{shop.__class__}", "{shop[x]}", "{a:{b}}", "{"],
)
def test_a_template_that_cannot_name_files_is_refused_when_it_is_built(tmp_path, name):
    with pytest.raises(DeclarationError, match="cannot name files"):
        file_set(tmp_path / "out", file=name, form=csv_file)
