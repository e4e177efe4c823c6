"""Work that asks for its parts: what happens to a part happens inside the work."""

import pytest

from batchwright.engine.drive import drive


def both(seen):
    with_errors = []
    for part in ("first", "second"):
        try:
            seen.append((yield part))
        except ValueError as error:
            with_errors.append(str(error))
    return with_errors


def test_each_part_is_done_and_the_answer_handed_in():
    seen: list[str] = []
    assert drive(both(seen), str.upper) == []
    assert seen == ["FIRST", "SECOND"]


def test_the_error_of_a_part_is_the_works_affair():
    def fail(part):
        raise ValueError(part)

    assert drive(both([]), fail) == ["first", "second"]


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt()])
def test_what_the_work_lets_through_is_raised(error):
    def fail(_):
        raise error

    with pytest.raises(type(error)):
        drive(both([]), fail)


def test_a_part_that_raises_stop_iteration_does_not_end_the_work():
    def fail(_):
        raise StopIteration("mine")

    with pytest.raises(RuntimeError):
        drive(both([]), fail)
