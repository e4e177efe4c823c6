"""Rows for SQL: fast for rows that are alike, careful for all others, the same either way."""

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwright.writers.rows import bindable, flat_values, sql_types

COLUMNS = ("id", "price")


class Pair(NamedTuple):
    id: int
    price: float


@dataclass
class Sale:
    id: int
    price: float


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": 1, "price": 2.0}, {"price": 4.0, "id": 3}],
        [(1, 2.0), (3, 4.0)],
        [Pair(1, 2.0), Pair(3, 4.0)],
        [Sale(1, 2.0), Sale(3, 4.0)],
        [Sale(1, 2.0), {"id": 3, "price": 4.0}],
        [Pair(1, 2.0), (3, 4.0)],
    ],
)
def test_rows_of_every_kind_become_values_in_the_order_of_the_columns(rows):
    assert flat_values(rows, COLUMNS) == ([1, 2.0, 3, 4.0], {})


@pytest.mark.parametrize("rows", [[{"id": 1}, {"id": 2}], [(1,), (2,)], [{"id": 1}, (2,)]])
def test_a_single_column_is_no_special_case(rows):
    assert flat_values(rows, ("id",)) == ([1, 2], {})


def test_what_a_dict_lacks_is_none():
    assert flat_values([{"id": 1, "price": 2}, {"id": 3}], COLUMNS) == ([1, 2, 3, None], {})


def test_what_a_dict_lacks_is_not_made_by_its_default():
    row = defaultdict(int, {"id": 3})
    assert flat_values([row, row], COLUMNS) == ([3, None, 3, None], {})
    assert dict(row) == {"id": 3}


@pytest.mark.parametrize(
    "rows",
    [
        [{"id": 1, "price": 2, "colour": 3}],
        [{"id": 1, "colour": 3}, {"id": 1, "price": 2}],
        # As many keys as there should be, and one row has a wrong one.
        [{"id": 1, "price": 2}, {"id": 1, "colour": 3}],
        [{"id": 1}, {"id": 1, "price": 2, "colour": 3}],
    ],
)
def test_an_unknown_column_is_refused_by_name(rows):
    values, errors = flat_values(rows, COLUMNS)
    odd = [index for index, row in enumerate(rows) if "colour" in row]
    assert list(errors) == odd
    assert all("colour" in str(errors[index]) for index in odd)
    assert all(values[2 * index : 2 * index + 2] == [None, None] for index in odd)


@pytest.mark.parametrize("rows", [[(1,), (2, 3)], [(1, 2, 3)], [(1, 2), (1, 2, 3)], [Pair(1, 2), (1,)]])
def test_a_tuple_of_another_length_is_refused(rows):
    _, errors = flat_values(rows, COLUMNS)
    assert list(errors) == [index for index, row in enumerate(rows) if len(row) != 2]
    assert all("2 columns" in str(error) for error in errors.values())


@pytest.mark.parametrize("place", [0, 1, 4, 5])
@pytest.mark.parametrize("others", [[1.0] * 6, [1.0, None] * 3, [1.0, "text"] * 3, [math.inf, -math.inf] * 3])
def test_nan_is_refused_wherever_it_stands(place, others):
    values = list(others)
    values[place] = math.nan
    converted, errors = bindable(values, 2)
    assert list(errors) == [place // 2]
    assert "NaN" in str(errors[place // 2])
    assert len(converted) == len(values)


def test_infinities_of_both_signs_are_no_nan():
    values = [math.inf, -math.inf, -math.inf, math.inf]
    assert bindable(values, 1) == (values, {})


def test_plain_values_are_not_copied():
    values = [1, "text", 2.5, None, b"bytes", True]
    converted, errors = bindable(values, 3)
    assert converted is values
    assert errors == {}


def test_a_row_that_cannot_be_stored_keeps_its_place():
    values = [1, date(2026, 1, 1), 2, object(), 3, date(2026, 1, 3)]
    converted, errors = bindable(values, 2)
    assert converted == [1, "2026-01-01", 2, values[3], 3, "2026-01-03"]
    assert list(errors) == [1]


@given(st.lists(st.tuples(st.integers(), st.floats() | st.none() | st.text()), min_size=1, max_size=8))
def test_a_row_is_refused_if_and_only_if_it_has_a_nan(rows):
    _, errors = bindable(flat_values(rows, COLUMNS)[0], 2)
    assert set(errors) == {index for index, row in enumerate(rows) if row[1] != row[1]}


def test_types_follow_the_values_of_each_column():
    values = [1, 2, None, 1.5, None, "a", 2, "x", None, 3.5, None, 7]
    assert sql_types(values, ("a", "b", "c")) == {"a": "REAL", "b": "", "c": ""}
    assert sql_types([1, None, "a", 2.5, None, "b"], ("n", "void", "text")) == {"n": "REAL", "text": "TEXT"}
