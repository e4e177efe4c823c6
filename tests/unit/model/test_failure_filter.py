"""Which failures are meant."""

from datetime import UTC, datetime

import pytest

from batchwright.model.block import Place, Position
from batchwright.model.errors import FilterError
from batchwright.model.failure import Failure, Phase
from batchwright.model.failure_filter import FailureFilter


def failure(ordinal=4, **values):
    place = Place("in/sales.csv", values.pop("line", ordinal + 2))
    known = {"phase": Phase.PROCESS, "error_type": "ValueError", "error": "No price: 'free'", "attempts": 1}
    return Failure(
        step="load", position=Position(ordinal), place=place, at=datetime(2026, 1, 1, tzinfo=UTC), **{**known, **values}
    )


@pytest.mark.parametrize(
    ("terms", "meant"),
    [
        ([], True),
        (["error_type=ValueError"], True),
        (["error_type=Value"], False),
        (["error_type!=KeyError"], True),
        (["error~PRICE"], True),
        (["error!~price"], False),
        (["error=No price: 'free'"], True),
        (["error~: '"], True),
        (["line=6"], True),
        (["line=6..9"], True),
        (["line=7.."], False),
        (["line=..6"], True),
        (["line!=1..5"], True),
        (["item=5", "ordinal=4"], True),
        (["item=5", "phase=read"], False),
        (["byte=0.."], False),
        ([" source ~ sales "], True),
        (["place=in/sales.csv line 6"], True),
    ],
)
def test_all_terms_have_to_hold(terms, meant):
    assert list(FailureFilter(terms).chosen([failure()])) == ([failure()] if meant else [])


@pytest.mark.parametrize(
    "wrong", ["", "ValueError", "colour=red", "line~6", "line=six", "line=..", "line=6..x", "=6", "attempts=-1"]
)
def test_what_cannot_be_meant_is_refused_with_an_example(wrong):
    with pytest.raises(FilterError, match="write "):
        FailureFilter([wrong])


def test_a_single_text_is_one_term():
    assert FailureFilter("line=6").terms == ("line=6",)
