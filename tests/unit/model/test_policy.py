"""Retry and Skip as values: which errors, how many, and limits as count or rate."""

import pytest

from batchwright import Retry, Skip
from batchwright.model.errors import DeclarationError
from batchwright.model.policy import parse_limit


@pytest.mark.parametrize(
    ("limit", "parsed"),
    [
        (None, (None, None)),
        (0, (0, None)),
        (50, (50, None)),
        ("50", (50, None)),
        ("2%", (None, 0.02)),
        (" 0.5 % ", (None, 0.005)),
    ],
)
def test_a_limit_is_a_count_or_a_rate(limit, parsed):
    assert parse_limit(limit) == parsed


def test_a_count_is_exceeded_by_one_more():
    assert not Skip(limit=2).exceeded(2, 2)
    assert Skip(limit=2).exceeded(3, 10**9)


def test_a_rate_is_exceeded_by_more_than_its_part_from_1000_items_on_and_at_the_end():
    skip = Skip(limit="1%")
    assert not skip.exceeded(10, 1_000)
    assert skip.exceeded(11, 1_000)
    assert not skip.exceeded(999, 999)
    assert skip.exceeded(10, 999, at_end=True)
    assert not skip.exceeded(0, 0, at_end=True)


def test_without_limit_nothing_is_exceeded():
    assert not Skip().exceeded(10**9, 10**9, at_end=True)


def test_retry_allows_so_many_attempts_for_its_errors_and_their_subclasses():
    retry = Retry(on=(OSError, KeyError), attempts=3)
    assert [retry.allows(ConnectionError(), made) for made in (1, 2, 3)] == [True, True, False]
    assert not retry.allows(ValueError(), 1)
    assert not Retry().allows(SystemExit(), 1)


def test_retry_asks_when_about_its_errors_only():
    asked = []

    def may_pass(error):
        asked.append(error)
        return error.args == ("busy",)

    retry, busy, refused = Retry(on=OSError, when=may_pass), OSError("busy"), OSError("refused")
    assert retry.allows(busy, 1)
    assert not retry.allows(refused, 1)
    assert not retry.allows(busy, 3)
    assert not retry.allows(ValueError("busy"), 1)
    assert asked == [busy, refused]


async def in_a_moment(error):
    return True


@pytest.mark.parametrize("when", [True, "busy", OSError, in_a_moment, lambda error: (yield)])
def test_when_must_be_a_plain_function(when):
    with pytest.raises(DeclarationError, match="when must be a plain function"):
        Retry(on=OSError, when=when)
