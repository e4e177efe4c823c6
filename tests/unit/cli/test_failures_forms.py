"""CSV that a spreadsheet does not run, and text that a terminal does not obey."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwright.cli.failures import neutralised
from batchwright.cli.streams import json_text


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-5", "-5"),
        ("+3.25", "+3.25"),
        ("-1e-9", "-1e-9"),
        ("plain", "plain"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_formulas_get_an_apostrophe_and_numbers_do_not(cell, shown):
    assert neutralised(cell) == shown


@given(st.text())
def test_no_cell_starts_like_a_formula_unless_it_is_a_number(cell):
    shown = neutralised(cell)
    if shown[:1] in tuple("=+-@\t\r"):
        float(shown)


@given(st.text())
def test_json_comes_back_as_it_was_and_holds_no_control_character(text):
    shown = json_text({"text": text})
    assert json.loads(shown) == {"text": text}
    assert not any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in shown)


@given(st.lists(st.text(), min_size=1))
def test_neutralised_csv_is_still_csv(cells):
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow([neutralised(cell) for cell in cells])
    (row,) = csv.reader(io.StringIO(buffer.getvalue(), newline=""))
    assert row == [neutralised(cell) for cell in cells]
