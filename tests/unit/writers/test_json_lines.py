"""Lines of JSON: plain values, and those that JSON has no place for."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

from tests.unit.writers.staging import publish
from tests.unit.writers.test_text_files import refused

from batchwright.writers import json_lines_file


class Colour(Enum):
    RED = "red"


@dataclass
class Person:
    id: int
    born: date


def test_a_line_holds_plain_json_in_the_order_of_its_keys(tmp_path):
    publish(json_lines_file(tmp_path / "out"), [{"b": 1, "a": "ä\n\u2028"}], [[None, True, 1.5], "text"])
    assert (tmp_path / "out").read_text().split("\n") == [
        '{"b": 1, "a": "ä\\n\u2028"}',
        "[null, true, 1.5]",
        '"text"',
        "",
    ]


def test_values_that_json_lacks_become_plain_strings(tmp_path):
    values = {
        "date": date(2026, 1, 2),
        "datetime": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        "time": time(3, 4),
        "decimal": Decimal("1.10"),
        "uuid": UUID(int=1),
        "path": Path("a/b"),
        "enum": Colour.RED,
    }
    publish(json_lines_file(tmp_path / "out"), [values])
    assert json.loads((tmp_path / "out").read_text()) == {
        "date": "2026-01-02",
        "datetime": "2026-01-02T03:04:00+00:00",
        "time": "03:04:00",
        "decimal": "1.10",
        "uuid": "00000000-0000-0000-0000-000000000001",
        "path": "a/b",
        "enum": "red",
    }


def test_dataclasses_and_mappings_become_objects(tmp_path):
    publish(
        json_lines_file(tmp_path / "out"),
        [Person(1, date(2026, 1, 2)), MappingProxyType({"a": 1}), OrderedDict(b=2)],
    )
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines == ['{"id": 1, "born": "2026-01-02"}', '{"a": 1}', '{"b": 2}']


def test_outputs_that_json_has_no_place_for_are_named_and_all_others_are_kept(tmp_path):
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    outputs = [
        1,
        float("nan"),
        {"a": [float("-inf")]},
        Decimal("NaN"),
        b"",
        {1, 2},
        circle,
        deep,
        "\ud800",
        {(1,): 1},
        2,
    ]
    errors = refused(tmp_path, json_lines_file(tmp_path / "out"), outputs)
    assert list(errors) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (tmp_path / "out").read_text() == "1\n2\n"
