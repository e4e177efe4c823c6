"""What is heard of partitions is added up once, whoever tells it and however often."""

from hypothesis import given
from hypothesis import strategies as st

from batchwright.engine.announce import Announcer
from batchwright.engine.tally_partitions import Tally
from batchwright.model.checkpoint import Counts

HEARD = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 9)), max_size=30)


@given(heard=HEARD)
def test_the_sum_is_that_of_the_highest_counts_of_each(heard: list[tuple[int, int]]):
    tally, highest = Tally(Announcer(()), 4), dict[int, int]()
    for number, read in heard:
        tally.hear(number, Counts(read=read, written=read), None)
        highest[number] = max(read, highest.get(number, 0))
        total = sum(highest.values())
        assert tally.in_all() == Counts(read=total, written=total)


def test_thousands_of_partitions_are_not_added_up_for_every_chunk():
    class Watched(dict[int, Counts]):
        def values(self) -> object:  # type: ignore[override] # nobody is to call it
            raise AssertionError("all counts were looked at")

    tally = Tally(Announcer(()), 2, counts=Watched())
    tally.hear(1, Counts(read=3), 0.5)
    assert tally.in_all() == Counts(read=3)
