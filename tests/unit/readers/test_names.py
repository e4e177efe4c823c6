import subprocess
import sys

import pytest

import batchwright.readers

UNWANTED = "sqlite3 asyncio concurrent.futures multiprocessing ssl"


@pytest.mark.parametrize("name", ["csv_rows", "json_lines", "text_lines", "query"])
@pytest.mark.parametrize("first", ["json_lines", "csv_files", "text_files", "iterables"])
def test_each_name_is_a_function_whatever_module_was_imported_first(name, first):
    code = f"import batchwright.readers.{first}; from batchwright.readers import {name}; assert callable({name})"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["text_files", "csv_files", "json_lines", "iterables"])
def test_file_readers_load_nothing_heavy(module):
    code = f"import sys, batchwright.readers.{module}; print(*set(sys.modules) & set('{UNWANTED}'.split()))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'xml_elements'"):
        _ = batchwright.readers.xml_elements
