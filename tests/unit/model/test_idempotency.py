"""`once`: the same text for the same call whoever asks, another for any other, an error where nobody can know."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.unit.engine.runs import run_here

from batchwright import ConfigurationError, Job, Step, each, once
from batchwright.ledgers.memory import MemoryLedger


def keys_of(process, *, month=11, name="pay", job="bill", ledger=None, **options):
    got = []
    step = Step(name, read=["a", "b"], process=process, write=got.extend)
    run_here(Job(job, step, parameters={"month": month}), ledger=ledger, **options)
    return got


def plain(item):
    return once(item)


def generator(item):
    yield once(item)


async def asynchronous(item):
    await asyncio.sleep(0)
    return once(item)


async def async_generator(item):
    yield once(item)


async def in_a_thread(item):
    return await asyncio.to_thread(once, item)


@pytest.mark.parametrize("process", [plain, generator, asynchronous, async_generator, in_a_thread])
def test_every_kind_of_processor_gets_the_same_keys(process):
    assert keys_of(process) == keys_of(plain)


@pytest.mark.parametrize("process", [plain, generator, asynchronous])
def test_workers_get_the_same_keys(process):
    got = []
    step = Step("pay", read=["a", "b"], process=process, write=got.extend, workers=2)
    run_here(Job("bill", step, parameters={"month": 11}))
    assert got == keys_of(plain)


def test_a_key_depends_on_job_parameters_lap_step_and_name():
    ledger = MemoryLedger()
    keys = [
        *keys_of(plain, ledger=ledger),
        *keys_of(plain, ledger=ledger, again=True, confirmed=True),
        *keys_of(plain, month=12),
        *keys_of(plain, name="mail"),
        *keys_of(plain, job="remind"),
    ]
    assert len(set(keys)) == len(keys) == 10


def test_a_key_is_the_same_in_another_process():
    script = "from tests.unit.model.test_idempotency import keys_of, plain; print(keys_of(plain))"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == str(keys_of(plain))


def test_writers_functions_can_ask_too():
    got = []
    run_here(Step("s", read=[1], write=each(lambda n: got.append(once("a")))))
    run_here(Step("s", read=[1], process=lambda n: once("a"), write=got.extend))
    assert got[0] == got[1]


def test_runs_in_two_threads_do_not_mix_their_keys():
    expected = {month: keys_of(plain, month=month) for month in (1, 2)}
    found, meeting = {}, threading.Barrier(2)

    def meet(item):
        meeting.wait(timeout=60)
        return once(item)

    def start(month):
        found[month] = keys_of(meet, month=month)

    threads = [threading.Thread(target=start, args=(month,)) for month in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_outside_a_step_it_says_what_to_do():
    with pytest.raises(
        ConfigurationError, match="outside a step; this thread is not running one; call it in a function"
    ):
        once("a")
    keys_of(plain)
    with pytest.raises(ConfigurationError):
        once("a")


def test_a_thread_of_ones_own_is_outside():
    def elsewhere(item):
        errors = []

        def ask():
            try:
                once(item)
            except ConfigurationError as error:
                errors.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        return errors[0]

    assert all("hand the key to threads of your own" in text for text in keys_of(elsewhere))


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_name_is_needed(name):
    with pytest.raises(ConfigurationError, match="once needs a name"):
        once(name)
