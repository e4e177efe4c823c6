"""Atomic steps as they are declared: what can be meant, and what is refused when it is built."""

import pytest

from batchwright import Skip, Step, distinct, each
from batchwright.model.errors import DeclarationError
from batchwright.runners import Threads
from batchwright.step import publishing_writer
from batchwright.writers import csv_file, execute, insert, json_lines_file, text_file, upsert

AT_ONCE = True

DATABASES = ("sqlite:///t.db", "postgresql://somebody@somewhere/t")


def atomic(write, how=AT_ONCE, **options):
    return Step("load", read=[1], write=write, atomic=how, **options)


async def later(batch):
    return True


@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("how", [True, "transaction"])
def test_tables_can_be_published_at_once_and_keep_their_address(database, how):
    for write in (insert(database, "t"), upsert(database, "t", key="id")):
        assert publishing_writer(atomic(write, how, publish_if=bool)).address == write.address


@pytest.mark.parametrize("write", [text_file("t.txt"), csv_file("t.csv"), json_lines_file("t.jsonl")])
def test_files_are_all_or_nothing_anyway(write):
    assert publishing_writer(atomic(write)) is write


@pytest.mark.parametrize("database", DATABASES)
def test_a_statement_can_be_one_transaction_but_not_staged(database):
    write = execute(database, "DELETE FROM t")
    assert publishing_writer(atomic(write, "transaction")).address == write.address
    with pytest.raises(DeclarationError, match=r"what a statement does cannot be staged; .*insert or upsert"):
        atomic(write)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: atomic(len), "'load': atomic needs a writer that can publish everything at once; .*len hands on"),
        (lambda: atomic(each(len)), "each function:.*len does not stage its outputs; write with insert"),
        (lambda: atomic(text_file("t"), "transaction"), "atomic='transaction' is for tables; text:.*t is a file"),
        (lambda: atomic(text_file("t"), publish_if=bool), "publish_if is for tables; text:.*t is a file"),
        (lambda: atomic(insert(DATABASES[0], "t"), "yes"), "atomic must be True, False or 'transaction'; got 'yes'"),
        (lambda: atomic(insert(DATABASES[0], "t"), 1), "atomic must be True, False or 'transaction'; got 1"),
        (lambda: atomic(insert(DATABASES[0], "t"), publish_if=7), "publish_if must be a plain function; got 7"),
        (lambda: atomic(insert(DATABASES[0], "t"), publish_if=later), "publish_if must be a plain function"),
        (
            lambda: atomic(insert(DATABASES[0], "t"), process=distinct(key=str, across_laps=True)),
            "'load': atomic=True does not go with .*keys of a lap that is given up .* write atomic='transaction'",
        ),
        (lambda: atomic(len, how=False, publish_if=bool), "publish_if needs atomic; without it every chunk"),
    ],
)
def test_what_cannot_be_atomic_is_refused_when_built(declare, says):
    with pytest.raises(DeclarationError, match=says):
        declare()


def test_an_atomic_step_allows_no_failure_unless_its_limit_says_so():
    write = insert(DATABASES[0], "t")
    assert atomic(write).skip is None
    assert atomic(write, skip=Skip(on=ValueError)).skip == Skip(on=ValueError, limit=0)
    assert atomic(write, skip=Skip(limit="1%")).skip == Skip(limit="1%")
    assert atomic(write, how=False, skip=Skip()).skip == Skip()


def test_a_writer_of_ones_own_that_does_not_stage_is_refused():
    class Mine:
        guarantee, address = "exactly once", "mine"

        def open(self, scope):
            raise NotImplementedError

    with pytest.raises(DeclarationError, match="mine does not stage its outputs"):
        atomic(Mine())


def test_a_runner_says_with_how_many_workers():
    with pytest.raises(DeclarationError, match=r"runner must be a runner; got <class .*Threads"):
        Step("s", read=[], process=str, write=print, runner=Threads)
