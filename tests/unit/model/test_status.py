"""Statuses and their transitions."""

import pytest

from batchwright.model.status import TRANSITIONS, Status, sources_of


def test_every_stored_status_has_its_transitions_and_what_is_lost_is_never_stored():
    assert set(TRANSITIONS) == set(Status) - {Status.LOST, Status.COMPENSATION_LOST}
    assert set().union(*TRANSITIONS.values()) < set(TRANSITIONS)


@pytest.mark.parametrize("status", sorted(TRANSITIONS))
def test_sources_are_the_inverse_of_transitions(status):
    assert sources_of(status) == {source for source in TRANSITIONS if status in TRANSITIONS[source]}


def test_a_live_status_can_end_and_a_complete_one_cannot_fail():
    for status in TRANSITIONS:
        if status.live:
            assert TRANSITIONS[status]
        if status.complete:
            assert TRANSITIONS[status] == {Status.COMPENSATING}
        assert not (status.live and status.complete)
