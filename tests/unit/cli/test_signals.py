import os
import signal
from collections.abc import Callable

import pytest

from batchwright.cli.signals import SHOWS, STOPS, Signals, StoppedAtOnce, signals_stop
from batchwright.engine.stop import Stop
from batchwright.model.errors import DeclarationError

Does = Callable[[Signals], None]


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def meanwhile(does: Does, stop: Stop | None = None) -> None:
    with signals_stop(stop or Stop()) as signals:
        does(signals)


def test_the_first_signal_asks_and_the_second_ends_at_once():
    stop = Stop()

    def two(signals: Signals) -> None:
        send(signal.SIGTERM)
        assert (stop.requested, signals.exit_code) == ("stopped by SIGTERM", 143)
        send(signal.SIGINT)

    with pytest.raises(StoppedAtOnce) as ended:
        meanwhile(two, stop)
    assert ended.value.exit_code == 130


def test_a_third_signal_that_comes_with_the_second_does_not_break_off_what_cleans_up():
    cleaned = []

    def three(signals: Signals) -> None:
        del signals
        send(signal.SIGTERM)
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGINT)
            cleaned.append(True)

    with pytest.raises(StoppedAtOnce):
        meanwhile(three)
    assert cleaned


def test_a_signal_after_one_whose_error_was_swallowed_ends_the_run_all_the_same():
    signals = Signals(Stop(), 25)
    signals(signal.SIGTERM, None)
    with pytest.raises(StoppedAtOnce):
        signals(signal.SIGTERM, None)
    signals(signal.SIGTERM, None)
    signals._unwinds_until -= 60  # a minute later
    with pytest.raises(StoppedAtOnce):
        signals(signal.SIGTERM, None)


def left_by_the_second_signal(error: Exception) -> Does:
    """As when it comes while a lock's own code runs, which is then in disorder."""

    def two(signals: Signals) -> None:
        del signals
        send(signal.SIGTERM)
        try:
            send(signal.SIGTERM)
        except StoppedAtOnce:
            raise error from None

    return two


def test_an_error_that_comes_of_ending_at_once_is_told_as_the_end_and_not_as_a_bug():
    with pytest.raises(StoppedAtOnce) as ended:
        meanwhile(left_by_the_second_signal(RuntimeError("release unlocked lock")))
    assert ended.value.exit_code == 143
    assert isinstance(ended.value.__cause__, RuntimeError)


def test_errors_with_an_exit_code_of_their_own_stay_what_they_are():
    with pytest.raises(DeclarationError):
        meanwhile(left_by_the_second_signal(DeclarationError("wrong")))


def test_without_a_second_signal_a_bug_stays_a_bug():
    def one(signals: Signals) -> None:
        del signals
        send(signal.SIGTERM)
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        meanwhile(one)


def test_the_handlers_from_before_are_back_at_the_end():
    before = [signal.getsignal(number) for number in STOPS]
    with signals_stop(Stop()):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in STOPS] == before


@pytest.mark.parametrize("number", SHOWS)
def test_a_signal_shows_where_every_thread_is_and_the_job_goes_on(number: signal.Signals, capfd):
    stop = Stop()
    meanwhile(lambda signals: send(number), stop)
    shown = capfd.readouterr().err
    assert stop.requested is None
    assert "Current thread" in shown
    assert "test_signals.py" in shown
    assert "in watch" in shown, "the thread that watches for signals is one of them"
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_the_program_uses_itself_is_left_to_it():
    came = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: came.append(number))
    try:
        meanwhile(lambda signals: send(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == [signal.SIGUSR1]
