"""The progress display: plain lines, the live display, and streams that go away."""

import io
import re
from dataclasses import replace

import pytest
from tests.unit.observers.events import Ticking, committed, finished, started, step_finished, step_started

from batchwright.model.events import StepMoved
from batchwright.model.waits import Waits
from batchwright.observers.progress import Progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def plain(monotonic=None, **settings) -> tuple[io.StringIO, Progress]:
    stream = io.StringIO()
    return stream, Progress(stream, monotonic=monotonic or Ticking(), **settings)


def lines(stream: io.StringIO) -> list[str]:
    return re.sub(r", [\d.,]+ MB", "", stream.getvalue()).splitlines()


def test_a_run_begins_with_its_ledger_and_the_guarantee_of_each_step():
    stream, progress = plain()
    progress(started())
    assert lines(stream) == ["sales starts: run 12, ledger /data/ledger.db", "  load: exactly once"]


def test_a_plain_line_comes_after_ten_seconds():
    clock = Ticking()
    stream, progress = plain(clock)
    progress(step_started(fraction=None))
    clock.time += 9
    progress(committed(900))
    assert lines(stream) == []
    clock.time += 1
    progress(committed(1_000, failed=3, retried=2))
    assert lines(stream) == ["load: 1,000 read, 100/s, 3 failed, 2 retried"]
    clock.time += 1
    progress(committed(1_100))
    assert len(lines(stream)) == 1


def test_a_plain_line_comes_with_each_ten_per_cent_but_not_twice_a_second():
    clock = Ticking()
    stream, progress = plain(clock)
    progress(step_started())
    clock.time += 0.5
    progress(committed(200, 0.2))
    assert lines(stream) == []
    clock.time += 1.5
    progress(committed(300, 0.3))
    assert lines(stream) == ["load: 30%, 300 read, 150/s, 4.7 s left"]
    clock.time += 1.5
    progress(committed(350, 0.35))
    assert len(lines(stream)) == 1


def test_the_rate_is_that_of_the_last_ten_seconds():
    clock = Ticking()
    stream, progress = plain(clock)
    progress(step_started(fraction=None))
    for second in range(1, 41):
        clock.time += 1
        progress(committed(1_000 * min(second, 20) + 10 * max(second - 20, 0)))
    assert lines(stream)[-1] == "load: 20,200 read, 10/s"


def test_the_time_left_of_a_run_that_goes_on_counts_from_where_it_began():
    clock = Ticking()
    stream, progress = plain(clock)
    progress(step_started(read=700, fraction=0.7))
    clock.time += 60
    progress(committed(800, 0.8))
    clock.time += 10
    progress(committed(900, 0.9))
    assert lines(stream) == [
        "load goes on after item 700",
        "load: 80%, 800 read",
        "load: 90%, 900 read, 10/s, 10.0 s left",
    ]


def test_the_pace_leaves_out_the_time_in_which_a_reader_passes_over_what_is_done():
    clock = Ticking()
    stream, progress = plain(clock)
    progress(step_started(read=40, fraction=None))
    clock.time += 60
    progress(committed(50))
    clock.time += 5
    progress(committed(100))
    progress(step_finished())
    progress(finished())
    assert progress.pace == (50, 5.0)
    assert "  10 items/s" in stream.getvalue()


def test_a_run_from_the_start_has_the_pace_of_its_result():
    clock = Ticking()
    _, progress = plain(clock)
    progress(step_started())
    clock.time += 5
    progress(committed(100))
    assert progress.pace is None


def live(monkeypatch, columns: int, *events) -> str:
    """What a terminal of this width shows last."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    with Progress(stream, summary=False) as progress:
        for event in events:
            progress(event)
    return re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())


def test_a_live_display_that_goes_on_says_so_until_the_first_chunk(monkeypatch):
    assert "goes on after item 18,000" in live(monkeypatch, 80, step_started(18_000)).split("━")[-1]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, "completed in 2.0 s\n  read 100 = written 100 + filtered 0 + failed 0\n"),
        (150, "completed in 2.0 s, read 100 = written 100 + filtered 0 + failed 0\n"),
    ],
)
def test_the_balance_at_the_end_is_never_cut(monkeypatch, columns, shown):
    text = live(monkeypatch, columns, step_started(), committed(100, 1.0), step_finished())
    assert shown in "".join(f"{line.rstrip()}\n" for line in text.split("━")[-1].splitlines())


def test_the_end_is_the_step_and_a_summary_unless_somebody_else_gives_it():
    stream, progress = plain()
    for event in (step_started(), step_finished(), finished()):
        progress(event)
    assert lines(stream)[:2] == [
        "load: completed in 2.0 s, read 100 = written 100 + filtered 0 + failed 0",
        "sales: completed (run 12) in 2.0 s",
    ]
    stream, progress = plain(summary=False)
    progress(finished())
    assert lines(stream) == []


def test_no_moving_progress_keeps_starts_and_ends():
    clock = Ticking()
    stream, progress = plain(clock, moving=False)
    progress(step_started())
    clock.time += 100
    progress(committed(50, 0.5))
    progress(step_finished())
    assert [line.split(" in ")[0] for line in lines(stream)] == ["load: completed"]


def test_a_live_display_shows_the_steps_and_gives_the_terminal_back(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream) as progress:
        for event in (started(), step_started(), committed(50, 0.5, failed=1)):
            progress(event)
        assert progress.show_notice("stopping at the end of this chunk")
        progress(step_finished())
        progress(finished())
    shown = stream.getvalue()
    assert "load" in shown
    assert "completed in 2.0 s" in shown
    assert "stopping at the end of this chunk" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is visible again"
    assert shown.rstrip().endswith("items/s, peak memory -")


def test_names_from_data_cannot_command_the_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream) as progress:
        progress(started())
        start = step_started()
        progress(type(start)(start.run, "[red]x\x1b]0;title\x07", start.counts, start.fraction))
    assert r"[red]x\x1b]0;title\x07" in stream.getvalue()
    assert "\x1b]0;" not in stream.getvalue()


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    stream = Terminal()
    with Progress(stream) as progress:
        for event in (step_started(), committed(50, 0.5), step_finished()):
            progress(event)
        assert not progress.show_notice("stopping")
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("stream", [Broken(), None])
def test_a_stream_that_is_gone_harms_nothing(stream, monkeypatch):
    if stream is None:
        monkeypatch.setattr("sys.stderr", None)
    progress = Progress(stream)
    for event in (started(), step_started(), step_finished(), finished()):
        progress(event)
    progress.close()


def test_nothing_is_shown_after_close():
    stream, progress = plain()
    progress.close()
    progress(started())
    assert stream.getvalue() == ""


def test_a_chunk_in_work_is_seen_to_move_before_it_is_committed():
    clock = Ticking()
    stream, progress = plain(clock)
    progress(step_started())
    clock.time += 2
    progress(StepMoved(12, "load", 200, 0.2))
    assert lines(stream) == ["load: 20%, 200 read, 100/s, 8.0 s left"]


@pytest.mark.parametrize("name", ["load", "load-the-invoices-of-the-month-from-the-bank"])
@pytest.mark.parametrize("columns", [60, 80, 100, 150])
def test_facts_that_do_not_fit_are_left_out_whole(monkeypatch, columns, name):
    moved = StepMoved(12, name, 1_234_567, 0.5, Waits(0.1, 0.8, 0.1))
    events = step_started(), committed(1_000_000, 0.4, failed=1_016, retried=7)
    text = live(monkeypatch, columns, *(replace(event, step=name) for event in events), moved)
    last = text.splitlines()[-1].rstrip()
    assert "50%, 1,234,567 read" in last
    assert not last.endswith("…")
    assert len(last) <= columns
