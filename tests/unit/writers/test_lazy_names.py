"""The names of `batchwright.writers` are loaded when they are first used."""

import subprocess
import sys

import pytest

from batchwright import writers

LOADED = """
import sys
from batchwright.writers import csv_file, each, json_lines_file, text_file
print(sorted({"sqlite3", "batchwright.writers.sqlite"} & set(sys.modules)))
"""


def test_every_name_can_be_had():
    assert sorted(writers.__all__) == writers.__all__
    assert set(writers.__all__) <= set(dir(writers))
    for name in writers.__all__:
        assert getattr(writers, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'xml_file'"):
        writers.xml_file  # noqa: B018 - asking for it is the test


def test_files_load_no_database():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
