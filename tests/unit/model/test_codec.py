"""What is stored is JSON with tags: what goes in comes out, equal values are equal texts, nothing else gets in."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchwright.model.codec import MAX_DEPTH, decode, encode
from batchwright.model.errors import CodecError

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=5, minutes=30))))
    | st.times()
    | st.timedeltas()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(st.integers() | st.tuples(st.integers(), KEYS), inner, max_size=3)
    ),
    max_leaves=20,
)


def typed(value):
    """The value with the type of everything in it; a dict's order is not kept."""
    if isinstance(value, dict):
        return {typed(key): typed(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [type(value), *map(typed, value)] if isinstance(value, list) else (type(value), *map(typed, value))
    return (type(value), value)


@given(VALUES)
def test_what_goes_in_comes_out_with_its_types(value):
    assert typed(decode(encode(value))) == typed(value)


@given(st.dictionaries(KEYS, st.integers(), min_size=2))
def test_equal_dicts_in_another_order_are_equal_texts(value):
    assert encode(value, canonical=True) == encode(dict(reversed(value.items())), canonical=True)
    assert list(decode(encode(value))) == list(value)


@given(st.sets(st.integers() | KEYS))
def test_a_set_comes_back_and_its_text_does_not_depend_on_its_order(value):
    assert decode(encode(value)) == value
    assert encode(value) == encode(frozenset(sorted(value, key=repr)))


@pytest.mark.parametrize(
    "value", [{"$date": "2026-01-01"}, {"$dict": []}, {"$": 1}, {"a": {"$unknown": 1}}, {"v": 1, "value": 2}]
)
def test_a_users_own_tags_are_no_tags(value):
    assert decode(encode(value)) == value


def test_a_datetime_is_no_date_and_a_bool_is_no_integer():
    assert type(decode(encode(datetime(2026, 1, 2)))) is datetime  # noqa: DTZ001 - naive on purpose
    assert type(decode(encode(date(2026, 1, 2)))) is date
    assert decode(encode(True)) is True
    assert encode(1) != encode(True)
    assert encode(Decimal("1.0")) != encode(Decimal("1.00"))


def test_a_member_of_an_enum_is_stored_as_its_value():
    class Colour(Enum):
        RED = "red"

    class Size(IntEnum):
        BIG = 3

    assert decode(encode([Colour.RED, Size.BIG])) == ["red", 3]


def test_a_path_comes_back_as_a_path():
    assert decode(encode(Path("in/sales.csv"))) == Path("in/sales.csv")


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("Infinity"),
        object(),
        len,
        ValueError("x"),
        [1, {"a": (object(),)}],
        {float("nan"): 1},
    ],
)
def test_what_the_codec_does_not_know_is_refused(value):
    with pytest.raises(CodecError):
        encode(value)


def test_a_value_that_contains_itself_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(CodecError, match=f"nested deeper than {MAX_DEPTH}"):
        encode(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"value":1}',
        '{"v":2,"value":1}',
        '{"v":1,"value":{"$python":"os.system"}}',
        '{"v":1,"value":{"$date":"yesterday"}}',
        '{"v":1,"value":{"$decimal":"many"}}',
        '{"v":1,"value":{"$uuid":7}}',
        '{"v":1,"value":{"$set":[{"a":1}]}}',
        "[" * 100_000,
    ],
)
def test_a_text_that_was_not_stored_by_us_is_refused(text):
    with pytest.raises(CodecError):
        decode(text)


def test_a_text_of_another_version_asks_for_an_upgrade():
    with pytest.raises(CodecError, match="version 2; this batchwright reads version 1; upgrade"):
        decode('{"v":2,"value":null}')


def test_the_format_is_what_is_written_down():
    value = [date(2026, 11, 22), UUID(int=0), b"x", (1,), time(1, 2), timedelta(1, 2, 3), {1: 2}]
    assert encode(value) == (
        '{"v":1,"value":[{"$date":"2026-11-22"},{"$uuid":"00000000-0000-0000-0000-000000000000"},{"$bytes":"eA=="},'
        '{"$tuple":[1]},{"$time":"01:02:00"},{"$timedelta":[1,2,3]},{"$dict":[[1,2]]}]}'
    )
