"""Digests of items: equal in every process for equal items, none for items without a lasting form."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from batchwright.model.digest import LONG, item_digest


@dataclass
class Row:
    number: int
    names: list[str]


ITEMS = [
    None,
    7,
    1.5,
    "text",
    b"bytes",
    "\ud800",
    "x" * (LONG + 1),
    {"id": 1, "amount": Decimal("1.10")},
    {"id": 1, "at": datetime(2026, 11, 22, tzinfo=UTC)},
    {"id": 1, "names": ["a", "b"]},
    {1: "not a text"},
    (1, "a"),
    [1, [2]],
    {"b", "a"},
    Row(1, ["a"]),
]


def test_different_items_have_different_digests():
    found = [item_digest(item) for item in ITEMS]
    assert all(found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("item", [object(), {"x": object()}, float, [lambda: 1], {"nested": [float("nan")]}])
def test_items_without_a_lasting_form_have_none(item):
    assert item_digest(item) == ""


def test_a_long_text_is_known_by_its_length_and_its_ends():
    long = "x" * (LONG * 2)
    assert item_digest(long) != item_digest(long + "x") != item_digest("y" + long)


def test_digests_are_the_same_in_every_process():
    code = "from tests.unit.model.test_digest import *; print(*map(item_digest, ITEMS))"
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] == " ".join(map(item_digest, ITEMS)) + "\n"


def test_a_number_too_long_to_be_written_has_no_digest():
    assert item_digest(10**5000) == item_digest({"n": 10**5000}) == item_digest([10**5000]) == ""
