"""The page of statuses is made from the table of transitions."""

from tests.docs import statuses_page as page

from batchwright.model.status import Status


def test_the_page_says_what_the_table_says():
    assert page.PAGE.read_text() == page.page_with(page.described()), "run: python -m tests.docs.statuses_page"


def test_a_transition_that_the_page_does_not_know_is_found(monkeypatch):
    changed = {**page.TRANSITIONS, Status.ABANDONED: frozenset({Status.RUNNING})}
    monkeypatch.setattr(page, "TRANSITIONS", changed)
    assert page.PAGE.read_text() != page.page_with(page.described())
