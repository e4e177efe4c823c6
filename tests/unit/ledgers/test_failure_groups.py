import pytest

from batchwright.ledgers.failure_groups import MAX_GROUPS, OTHER_MESSAGES, Cause, group_failures
from batchwright.model.block import Place
from batchwright.model.cause import general_message
from batchwright.model.failure import FailureState


def cause(error, step="load", error_type="ValueError", *, is_open=True, line=1):
    return Cause(
        step,
        "process",
        error_type,
        error,
        FailureState.OPEN if is_open else FailureState.REPLAYED,
        Place("in.csv", line),
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("row 17 is bad", "row 4 is bad"),
        ("could not convert string to float: 'abc'", "could not convert string to float: '1,2'"),
        ('no shop "Zoë\'s"', 'no shop "O\'Neill"'),
        ("time data '12:30' does not match format '%H'", "time data '' does not match format '%H'"),
        ("took 1.5 s", "took 20 s"),
        ("got -5", "got 5"),
        ("on 2026-11-22 12:30:01", "on 1999-01-02 00:00:00"),
        ("id 3f2a9b1c-0000-4000-8000-00000000ab12", "id 00112233-aaaa-4bbb-8ccc-ffffffffffff"),
        (r"bad: 'it\'s'", "bad: 'x'"),
    ],
)
def test_messages_that_differ_in_numbers_and_quoted_parts_are_one_cause(one, other):
    assert general_message(one) == general_message(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no such shop", "no such customer"),
        ("can't read it, isn't text", "can't read it, isn't a number"),
        ("feedback is empty", "feedback is missing"),
    ],
)
def test_messages_that_differ_in_words_are_two_causes(one, other):
    assert general_message(one) != general_message(other)


def test_the_name_of_a_class_stays_in_the_message():
    message = "[<class 'decimal.ConversionSyntax'>]"
    assert general_message(message) == message
    assert general_message("<enum 'Shade'> has no 'pink'") == "<enum 'Shade'> has no '…'"


def test_a_long_message_with_many_open_quotes_takes_no_time():
    assert len(general_message(" '" * 1_000_000)) <= 300


def test_groups_count_all_and_open_and_keep_the_first_place_and_example():
    causes = [cause("bad 1", line=7), cause("worse"), cause("bad 2", is_open=False), cause("bad 3")]
    first, second = group_failures(causes)
    assert (first.message, first.count, first.open, first.first_place, first.example) == (
        "bad N", 3, 2, "in.csv line 7", "bad 1",
    )  # fmt: skip
    assert (second.message, second.count) == ("worse", 1)


def test_groups_differ_by_step_and_error_type():
    causes = [cause("bad"), cause("bad", step="audit"), cause("bad", error_type="KeyError")]
    assert len(group_failures(causes)) == 3


def test_memory_is_bounded_when_no_two_messages_are_equal():
    words = ("".join("abcdefghij"[int(digit)] for digit in str(number)) for number in range(MAX_GROUPS + 500))
    groups = group_failures(cause(word) for word in words)
    assert len(groups) == MAX_GROUPS + 1
    assert (groups[0].message, groups[0].count) == (OTHER_MESSAGES, 500)
