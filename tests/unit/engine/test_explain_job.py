"""What `explain` says of a job, from its declaration alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from batchwright.engine.explain_job import explain
from batchwright.job import Job
from batchwright.model.guarantee import Guarantee
from batchwright.model.policy import Retry, Skip
from batchwright.runners import Processes
from batchwright.step import Step
from batchwright.writers import insert


class TouchedError(Exception):
    """Raised by whatever `explain` must leave alone."""


@dataclass(frozen=True)
class Untouchable:
    """A reader that may be looked at only."""

    address: str = "csv:/in/sales.csv"
    seeks: bool = True

    def read(self, after):
        raise TouchedError

    def place(self, position):
        raise TouchedError

    def check(self):
        raise TouchedError


@dataclass(frozen=True)
class Table:
    """A writer that may be looked at only."""

    guarantee: Guarantee = Guarantee.EXACTLY_ONCE
    address: str = "sqlite:///shop.db sales"
    adds_again: bool = False
    kept: list[str] = field(default_factory=list)

    def open(self, scope):
        raise TouchedError

    def check(self):
        raise TouchedError


def numbers() -> Iterator[int]:
    raise TouchedError
    yield


def send(outputs):
    raise TouchedError


def clean(item):
    raise TouchedError


GOOD = {"skip": Skip(on=ValueError, limit="1%")}


def warnings(**step) -> list[str]:
    settings = {"read": Untouchable(), "write": Table(), **GOOD, **step}
    return [warning.what for warning in explain(Job("sales", Step("load", **settings))).warnings]


def test_a_sound_step_has_no_warnings():
    assert warnings() == []


def test_a_step_is_described_by_its_declaration_without_being_touched():
    job = Job("sales", Step("load", read=Untouchable(), process=clean, write=Table(), retry=Retry(on=OSError), **GOOD))
    (step,) = explain(job).steps
    assert (step.reads, step.seeks, step.writes) == ("csv:/in/sales.csv", True, "sqlite:///shop.db sales")
    assert step.guarantee is Guarantee.EXACTLY_ONCE
    assert step.may_happen_twice == (
        "no output; process is called again for the up to 1,000 items of the chunk that a crash interrupts"
    )
    assert (step.retry, step.skip) == ("3 attempts on OSError", "ValueError, at most 1%")


def passes(error):
    return True


def test_the_condition_of_a_retry_is_named():
    retry = Retry(on=OSError, when=passes)
    job = Job("sales", Step("load", read=Untouchable(), process=clean, write=Table(), retry=retry, **GOOD))
    assert explain(job).steps[0].retry == "3 attempts on OSError, where test_explain_job.passes says so"


def test_steps_stand_in_the_order_they_run_with_those_they_follow():
    late = Step("late", read=[1], write=Table(), after="early")
    early = Step("early", read=[1], write=Table(), after=())
    assert [(step.name, step.after) for step in explain(Job("sales", late, early)).steps] == [
        ("early", ()),
        ("late", ("early",)),
    ]


@pytest.mark.parametrize(("source", "seeks"), [([1], True), (range(3), True), ({1}, False), (numbers, False)])
def test_collections_seek_if_they_have_an_order(source, seeks):
    (step,) = explain(Job("sales", Step("load", read=source, write=Table()))).steps
    assert step.seeks is seeks


def test_a_plain_function_as_target_is_at_least_once():
    (step,) = explain(Job("sales", Step("load", read=[1], write=send, process=clean))).steps
    assert step.guarantee is Guarantee.AT_LEAST_ONCE
    assert step.may_happen_twice == (
        "the outputs of the up to 1,000 items of the chunk that a crash interrupts may be written again;"
        " process is called again for them"
    )


@pytest.mark.parametrize(
    ("options", "items"),
    [
        ({"workers": 16}, "3,000"),
        ({"workers": 16, "max_in_flight": 64}, "64"),
        ({"workers": 2, "partitions": 8, "write": insert("sqlite:///t.db", "t")}, "2,000"),
        ({"runner": Processes(3), "partitions": 8, "write": insert("sqlite:///t.db", "t")}, "3,000"),
    ],
)
def test_what_workers_read_ahead_is_among_what_a_crash_repeats(options, items):
    (step,) = explain(Job("sales", Step("load", read=[1], process=clean, **({"write": Table()} | options)))).steps
    assert f"process is called again for the up to {items} items that are read and not committed" in (
        step.may_happen_twice
    )


def test_an_idempotent_target_may_be_sent_outputs_again():
    (step,) = explain(Job("sales", Step("load", read=[1], write=Table(Guarantee.EFFECTIVELY_ONCE)))).steps
    assert step.may_happen_twice == "outputs may be sent again, with no further effect"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"chunk_size": 100_001}, "a chunk of 100,001 items is held in memory whole, and a crash costs all of it"),
        (
            {"read": iter([1])},
            "a one-shot iterator can be read once only: there is nothing to go on with after a crash",
        ),
        (
            {"read": numbers},
            "the reader cannot seek: a restart reads the input again from its start and passes over what is done",
        ),
        ({"skip": None}, "the first item that fails stops the step"),
        (
            {"skip": Skip(on=ValueError)},
            "there is no limit on failures: a step in which every item fails still completes",
        ),
        (
            {"write": Table(Guarantee.AT_LEAST_ONCE)},
            "sqlite:///shop.db sales may be given the last chunk a second time after a crash",
        ),
        (
            {"write": Table(adds_again=True)},
            "the job has no parameters: each run of it, once finished, adds everything once more",
        ),
        (
            {"process": clean, "retry": Retry(attempts=5)},
            "your function is called up to 5 times for an item that fails",
        ),
    ],
)
def test_a_common_failure_pattern_is_warned_of_with_its_mend(change, what):
    settings = {"read": Untouchable(), "write": Table(), **GOOD, **change}
    (warning,) = explain(Job("sales", Step("load", **settings))).warnings
    assert (warning.step, warning.what) == ("load", what)
    assert warning.mend


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        ({}, False),
        ({"process": clean}, True),
        ({"read": Untouchable()}, True),
        ({"write": Table()}, True),
    ],
)
def test_a_step_that_only_copies_a_query_into_a_file_needs_no_skip(change, warned):
    settings = {"read": Untouchable("sqlite:////in/shop.db query 1a2b by id"), "write": Table(address="csv:/out.csv")}
    found = warnings(**settings | {"skip": None} | change)
    assert found == (["the first item that fails stops the step"] if warned else [])


def test_a_chunk_of_the_largest_sensible_size_is_not_warned_of():
    assert warnings(chunk_size=100_000) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "none: one item after the other"),
        ({"workers": 8}, "8 threads; at most 3,000 items read and not yet committed"),
        ({"workers": 8, "max_in_flight": 20}, "8 threads; at most 20 items read and not yet committed"),
        ({"runner": Processes(2), "chunk_size": 1}, "2 processes; at most 8 items read and not yet committed"),
    ],
)
def test_workers_and_what_bounds_them_are_told(options, words):
    step = Step("load", read=[1], process=str, write=Table(), **options)
    assert explain(Job("sales", step)).steps[0].workers == words


def test_parallelism_and_monitoring_are_notes():
    parallel, monitored = explain(Job("sales", Step("load", read=[1], write=Table()))).notes
    assert "only its workers work at the same time" in parallel
    assert "batchwright status" in monitored


def test_a_job_with_parameters_adds_again_only_when_told_to():
    step = Step("load", read=[1], write=Table(adds_again=True), skip=Skip(limit=1))
    (warning,) = explain(Job("sales", step, parameters={"day": 1})).warnings
    assert "with --again adds everything a second time" in warning.what


def test_a_limit_of_everything_is_no_limit():
    (warning,) = explain(Job("sales", Step("load", read=[1], write=Table(), skip=Skip(limit="100%")))).warnings
    assert "there is no limit on failures" in warning.what


@dataclass(frozen=True)
class Publishing(Table):
    """A table that can be published at once."""

    def publishing(self, publication):
        return self


def published(**step) -> str:
    (told,) = explain(Job("sales", Step("load", read=[1], write=Publishing(), **GOOD, **step))).steps
    return told.published


def test_what_an_atomic_step_costs_is_told():
    assert published() == ""
    assert published(atomic=True).startswith("all or nothing (staged): every row is written twice")
    assert published(atomic=True, publish_if=bool).startswith("all or nothing (staged), if publish_if says so: ")
    assert published(atomic="transaction").startswith("all or nothing (one transaction): cheapest for few rows")


def test_a_large_transaction_is_warned_of_and_so_is_one_of_unknown_size():
    def told(**step):
        return [what for what in warnings(write=Publishing(), **step) if "one transaction" in what]

    assert told(read=range(20_000), atomic="transaction") == []
    assert told(read=range(20_001), atomic=True) == []
    assert told(read=range(20_001), atomic="transaction")[0].startswith("one transaction over 20,001 items: it holds")
    assert told(atomic="transaction")[0].startswith("one transaction over an input of unknown size")
