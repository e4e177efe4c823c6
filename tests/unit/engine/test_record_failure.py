"""What is kept of an item set aside, what is never kept, and what an error says about its place."""

import json
import traceback
from datetime import date
from typing import Annotated

import pytest
from tests.unit.engine.runs import Blocks, bad, run_here

from batchwright import Job, JobFailedError, Secret, Skip, Step, each, run
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.codec import decode
from batchwright.model.failure import PayloadKind


def failure_of(item, *, error=ValueError, read=None, **skip):
    def fail(found):
        raise error(f"cannot take {found!r}") if isinstance(error, type) else error

    return run_here(Step("s", read=read or [item], process=fail, write=len, skip=Skip(**skip))).failures[0]


@pytest.mark.parametrize("item", [{"day": date(2026, 1, 2), "n": None}, (1, b"x"), "text", None, [1.5]])
def test_a_payload_comes_back_as_the_item_was(item):
    failure = failure_of(item)
    assert failure.payload_kind is PayloadKind.JSON
    assert decode(failure.payload or "") == item


def test_an_item_that_cannot_be_stored_is_described():
    failure = failure_of({"x": object()})
    assert failure.payload_kind is PayloadKind.DESCRIPTION
    assert "object object" in (failure.payload or "")


def test_whatever_an_item_and_its_error_do_the_failure_is_kept():
    class RudeError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Item:
        def __repr__(self) -> str:
            raise RuntimeError

    failure = failure_of(Item(), error=RudeError())
    assert failure.payload is not None
    assert failure.payload.endswith("Item>")
    assert failure.error == "(its message cannot be shown)"
    assert failure.error_type.endswith("RudeError")


def test_lone_surrogates_do_not_keep_a_failure_from_being_stored():
    failure = failure_of("\ud800")
    failure.error.encode()
    (failure.payload or "").encode()


@pytest.mark.parametrize(("size", "kind"), [(60_000, PayloadKind.JSON), (70_000, PayloadKind.TRUNCATED)])
def test_a_payload_is_kept_up_to_64_kib(size, kind):
    failure = failure_of("ä" * (size // 2))
    assert failure.payload_kind is kind
    assert len((failure.payload or "").encode()) <= 64 * 1024


def test_a_long_error_is_cut():
    assert len(failure_of(1, error=ValueError("x" * 100_000)).error) <= 4_000


def test_without_payload_none_is_kept_also_of_a_bad_record():
    assert (failure_of({"a": 1}, payload=False).payload, failure_of(0, read=Blocks([[bad()]])).payload) == (
        None,
        "raw text",
    )
    assert failure_of(0, read=Blocks([[bad()]]), payload=False).payload is None


def test_redacted_fields_are_not_kept_and_such_a_payload_is_no_item():
    failure = failure_of({"name": "Ann", "card": "4111"}, error=KeyError("card"), redact=("card",))
    assert failure.payload_kind is PayloadKind.DESCRIPTION
    assert "4111" not in (failure.payload or "")
    assert "Ann" in (failure.payload or "")


def test_nothing_is_kept_of_an_unreadable_record_whose_fields_are_redacted():
    assert failure_of(0, read=Blocks([[bad()]]), redact=("card",)).payload is None


def test_an_object_with_redacted_fields_is_named_by_its_type_only():
    class Card:
        def __repr__(self) -> str:
            return "4111"

    assert "4111" not in (failure_of(Card(), error=KeyError(), redact=("card",)).payload or "")


@pytest.mark.parametrize("secret", ["s3cret", 'qu"ote', "back\\slash", "new\nline", "it's", "ümlaut"])
def test_a_secret_is_in_no_failure_result_error_or_event(secret):
    def job(password: Annotated[str, Secret]) -> Job:
        def leak(item):
            raise ValueError(f"login {password} {password!r} failed")

        read = [{"password": password, "n": 1}, object()]
        tolerant = Step("tolerant", read=read, process=leak, write=len, skip=Skip())
        strict = Step("strict", read=read, process=leak, write=len)
        return Job("secretive", tolerant, strict)

    events: list = []
    ledger = MemoryLedger()
    made = Job.of(job, password=secret)
    ran = run_here(made, ledger=ledger, observers=[events.append])
    shown = [*map(repr, ran.failures), *map(repr, events), repr(made), str(ran.result), ran.result.error]
    shown += [str(JobFailedError(ran.result)), repr(ledger.runs()), repr(ledger.steps(1))]
    shown += [failure.payload or "" for failure in ran.failures] + [failure.error for failure in ran.failures]
    forms = {secret, json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    assert [text for text in shown for form in forms if form in text] == []
    assert "***" in ran.failures[0].error


def test_a_secret_that_holds_another_is_hidden_whole():
    def job(short: Annotated[str, Secret], long: Annotated[str, Secret]) -> Job:
        def leak(item):
            raise ValueError(f"{long}!")

        return Job("j", Step("s", read=[1], process=leak, write=len, skip=Skip()))

    assert run_here(Job.of(job, short="abc", long="abcdef")).failures[0].error == "***!"


def test_an_exception_arrives_as_itself_with_a_note_of_its_place():
    def fail(item):
        if item == 41:
            raise ZeroDivisionError("mine")
        return item

    with pytest.raises(JobFailedError) as caught:
        run(Job("daily", Step("load", read=range(99), process=fail, write=len)), ledger=MemoryLedger())
    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    assert cause.__notes__ == ["while processing item 42 (range item 42) of step 'load' of job 'daily'"]
    assert "mine (while processing item 42" in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_note_of_the_users_own_stands_beside_ours():
    def fail(item):
        error = ValueError("mine")
        error.add_note("look here")
        raise error

    ran = run_here(Step("s", read=[1], process=fail, write=len))
    assert ran.error is not None
    assert ran.error.__notes__ == ["look here", "while processing item 1 (list item 1) of step 's' of job 's'"]


def frames_between_run_and(error: BaseException | None) -> int:
    """How many frames of ours stand in all the tracebacks that are printed for this error."""
    files = []
    while error is not None:
        files += [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        error = error.__cause__
    return sum("batchwright" in name and "/tests/" not in name for name in files)


def plain(item):
    raise ValueError("here")


def generator(item):
    raise ValueError("here")
    yield


async def coroutine(item):
    raise ValueError("here")


@pytest.mark.parametrize("process", [plain, generator, coroutine])
@pytest.mark.parametrize("skip", [None, Skip(on=KeyError)])
def test_at_most_six_frames_of_ours_stand_between_run_and_the_users_function(process, skip):
    with pytest.raises(JobFailedError) as caught:
        run(Step("s", read=[1], process=process, write=len, skip=skip), ledger=MemoryLedger())
    assert 1 <= frames_between_run_and(caught.value) <= 6


def test_at_most_six_frames_of_ours_stand_between_run_and_a_users_writer():
    with pytest.raises(JobFailedError) as caught:
        run(Step("s", read=[1], write=each(plain)), ledger=MemoryLedger())
    assert 1 <= frames_between_run_and(caught.value) <= 6
