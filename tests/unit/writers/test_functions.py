"""Functions as writers: what is called, how often, and what is kept."""

from functools import partial

import pytest
from tests.unit.writers.staging import checkpoint, opened

from batchwright.model.errors import DeclarationError, ItemsFailed
from batchwright.model.guarantee import Fault, Guarantee
from batchwright.testing.memory_store import MemoryStore
from batchwright.testing.sink_driver import KEY
from batchwright.writers import each
from batchwright.writers.functions import function_writer


def test_a_function_gets_a_list_of_its_own(tmp_path):
    given = []

    def take_all(outputs):
        given.append(outputs)

    chunk = (1, 2, 3)
    with opened(function_writer(take_all), MemoryStore()) as sink:
        sink.write(chunk)
    assert given == [[1, 2, 3]]


def test_what_a_function_says_of_its_outputs_passes_through():
    def refuse(outputs):
        raise ItemsFailed({1: ValueError("second")})

    with opened(function_writer(refuse), MemoryStore()) as sink, pytest.raises(ItemsFailed) as raised:
        sink.write([1, 2, 3])
    assert list(raised.value.errors) == [1]


def test_each_stops_at_the_first_error_and_says_how_far_it_came():
    calls = []

    def call(output):
        calls.append(output)
        if output == "b":
            raise StopIteration

    with opened(each(call), MemoryStore()) as sink:
        with pytest.raises(ItemsFailed) as raised:
            sink.write(["a", "b", "c"])
        assert (list(raised.value.errors), raised.value.attempted) == ([1], 2)
        sink.write(["c"])
    assert calls == ["a", "b", "c"]


def test_an_exit_from_a_function_is_its_outputs_failure_but_an_interrupt_is_not():
    def leave(output):
        raise output

    with opened(each(leave), MemoryStore()) as sink:
        with pytest.raises(ItemsFailed):
            sink.write([SystemExit(3)])
        with pytest.raises(KeyboardInterrupt):
            sink.write([KeyboardInterrupt()])


def test_no_error_of_a_function_is_worth_another_try():
    for writer in (each(print), function_writer(print)):
        assert writer.guarantee is Guarantee.AT_LEAST_ONCE
        with opened(writer, MemoryStore()) as sink:
            assert sink.classify(OSError()) is Fault.FATAL


def test_every_chunk_is_stored_at_once():
    store = MemoryStore()
    with opened(each(print), store, seconds=60.0) as sink:
        sink.commit(checkpoint(1), ())
        assert store.load_checkpoint(KEY).position.ordinal == 1


def test_the_address_is_the_functions_name():
    assert function_writer(partial(print, end="")).address == "function:builtins.print"
    assert each(print).address == "each function:builtins.print"
    assert each(print).function is print


async def asynchronous(outputs):
    pass


def generator(outputs):
    yield


@pytest.mark.parametrize("make", [each, function_writer])
@pytest.mark.parametrize(
    ("function", "found"),
    [(asynchronous, "async function"), (partial(generator), "generator"), ("text", "got 'text'")],
)
def test_what_does_nothing_when_called_is_refused_when_declared(make, function, found):
    with pytest.raises(DeclarationError, match=found):
        make(function)
