"""Progress for people: a live display on a terminal, a plain line now and then anywhere else.

The one rule: it never harms the run. A stream that is gone or full ends the display, nothing else.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO, cast

from batchwright.model.checkpoint import Counts
from batchwright.model.events import (
    ChunkCommitted,
    Event,
    JobFinished,
    JobStarted,
    StepFinished,
    StepMoved,
    StepStarted,
)
from batchwright.model.result import JobResult
from batchwright.observers.harmless_stream import HarmlessStream
from batchwright.observers.plain_text import balance, duration, printable, size, status_words, summary_lines

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

PLAIN_LINE_SECONDS = 10.0
RATE_SECONDS = 10.0
LINES_SHOWN = 12
BAR_WIDTH = 20
LEAST_BAR_WIDTH = 6


class Progress:
    """An observer that shows how far each step is: items, rate, time left, failures, retries, memory.

    `live` is by default whether the stream (standard error) is a terminal that can move its cursor. `moving=False`
    shows starts, ends and the summary only. Close it, or use it as a context manager: a live display holds the
    terminal.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        moving: bool = True,
        summary: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is shown before the first event."""
        self._stream = HarmlessStream(sys.stderr if stream is None else stream)
        self._is_live = moving and (self._stream.can_move() if live is None else live)
        self._moving, self._summary, self._monotonic = moving, summary, monotonic
        self._memory = _Memory(monotonic)
        self._tracks: dict[str, _Track] = {}
        self._live: Live | None = None
        self._closed = False
        self._notice = ""

    def __call__(self, event: Event) -> None:
        """Show one event. For one thread."""
        if self._closed:
            return
        if isinstance(event, JobStarted):
            self._show_start(event)
        elif isinstance(event, StepStarted):
            self._show_step_start(event)
        elif isinstance(event, ChunkCommitted | StepMoved):
            self._show_way(event)
        elif isinstance(event, StepFinished):
            self._show_step_end(event)
        elif isinstance(event, JobFinished):
            self._show_end(event.result)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def show_notice(self, text: str) -> bool:
        """Show a line below the steps; False if there is no display for it. Takes no lock: signal handlers call it."""
        self._notice = text
        return self._live is not None

    @property
    def pace(self) -> tuple[int, float] | None:
        """Items and seconds of a run that goes on, without the time in which its readers passed over what is done.

        None where there was nothing to pass over: then the result knows better.
        """
        tracks = list(self._tracks.values())
        if not any(track.goes_on for track in tracks):
            return None
        return sum(track.items for track in tracks), sum(track.seconds for track in tracks)

    def close(self) -> None:
        """Give the terminal back. May be called twice and from another thread."""
        self._closed = True
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _show_start(self, event: JobStarted) -> None:
        word = "goes on" if event.resumed else "starts"
        self._say(f"{printable(event.job)} {word}: run {event.run}, ledger {printable(event.ledger)}")
        for step, guarantee in event.steps:
            self._say(f"  {printable(step)}: {printable(guarantee)}")

    def _show_step_start(self, event: StepStarted) -> None:
        self._tracks[event.step] = _Track(event.step, event.counts, event.fraction, self._monotonic())
        if event.counts.read and self._live is None:
            self._say(f"{printable(event.step)} goes on after item {event.counts.read:,}")
        self._start_live()

    def _show_way(self, event: ChunkCommitted | StepMoved) -> None:
        """Show what is committed, and what is done of the chunk in work."""
        track = self._tracks.get(event.step)
        if track is None:
            return
        now = self._monotonic()
        if isinstance(event, ChunkCommitted):
            track.advance(event.counts, event.fraction, now)
        else:
            track.move(event.read, event.fraction, now)
        track.longest_wait = event.waits.longest
        if self._moving and not self._is_live and track.plain_line_is_due(now):
            self._say(f"{printable(track.name)}: {', '.join(track.facts(now, self._memory.used()))}")

    def _show_step_end(self, event: StepFinished) -> None:
        words = f"{status_words(event.status)} in {duration(event.seconds)}, {balance(event.counts)}"
        track = self._tracks.get(event.step)
        if track is not None and self._is_live:
            track.end = (f"{status_words(event.status)} in {duration(event.seconds)}", balance(event.counts))
            track.fraction = 1.0 if event.status.complete else track.fraction or 0.0
        else:
            self._say(f"{printable(event.step)}: {words}")

    def _show_end(self, result: JobResult) -> None:
        self.close()
        if self._summary:
            for line in summary_lines(result, self.pace):
                self._say(line)

    def _say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def _start_live(self) -> None:
        if not self._is_live or self._live is not None:
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=cast("TextIO", self._stream), force_terminal=True, highlight=False, emoji=False)
        self._live = Live(
            get_renderable=lambda: self._render(console.width),
            console=console,
            refresh_per_second=4,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._live.start()

    def _render(self, width: int) -> "RenderableType":
        """Called four times a second on the display's own thread; reads only."""
        from rich.console import Group
        from rich.text import Text

        now, memory = self._monotonic(), self._memory.used()
        tracks = list(self._tracks.values())[-LINES_SHOWN:]
        names = max(len(printable(track.name)) for track in tracks) if tracks else 0
        shown: list[RenderableType] = []
        for track in tracks:
            shown.extend(_lines_of(track, names, width, track.facts(now, memory), now))
        return Group(*shown, *([Text(self._notice)] if self._notice else []))


def _lines_of(track: "_Track", names: int, width: int, facts: Sequence[str], now: float) -> "Iterator[RenderableType]":
    """One line, of which nothing is cut: the bar shrinks first, then the last facts are left out.

    Two lines at the end of a step where the balance would be cut: it is never lost.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    names = min(names, width // 3)
    words = ", ".join(track.end) or _fitting(facts, width - names - LEAST_BAR_WIDTH - 2)
    broken = bool(track.end) and names + BAR_WIDTH + len(words) + 2 > width
    room = width - names - len(track.end[0] if broken else words) - 2
    bar = ProgressBar(
        total=1.0,
        completed=track.fraction or 0.0,
        width=max(LEAST_BAR_WIDTH, min(BAR_WIDTH, room)),
        pulse=track.fraction is None,
        animation_time=now - track.began,
        style="bright_black",
        complete_style="cyan",
        finished_style="green",
    )
    line = Table.grid(padding=(0, 1))
    line.add_column(min_width=names)
    name = printable(track.name)
    line.add_row(
        Text(name if len(name) <= names else f"{name[: names - 1]}…"),
        bar,
        Text(track.end[0] if broken else words, overflow="ellipsis", no_wrap=True),
    )
    yield line
    if broken:
        yield Text(f"  {track.end[1]}")


def _fitting(facts: Sequence[str], room: int) -> str:
    """As many of the facts as there is room for; the first ones say most."""
    words = facts[0]
    for fact in facts[1:]:
        if len(words) + len(fact) + 2 <= room:
            words += f", {fact}"
    return words


class _Track:
    """How far one step is, and how fast. A step that goes on is measured from its first committed chunk on.

    Before it some readers pass over what is done, which says nothing of what is to come.
    """

    def __init__(self, name: str, counts: Counts, fraction: float | None, now: float) -> None:
        self.name, self.counts, self.fraction = name, counts, fraction
        self.done = counts.read
        self.end: tuple[str, ...] = ()
        self.longest_wait = ""
        self.goes_on = bool(counts.read)
        self._passing_over = self.goes_on
        self._said_at, self._said_fraction = now, fraction or 0.0
        self._measure_from(counts.read, fraction, now)

    def advance(self, counts: Counts, fraction: float | None, now: float) -> None:
        self.counts = counts
        self.move(counts.read, fraction, now)

    def move(self, done: int, fraction: float | None, now: float) -> None:
        """Take note of what is done of the chunk in work."""
        self.done = max(self.done, done)
        self.fraction = fraction if fraction is None else max(fraction, self.fraction or 0.0)
        if self._passing_over:
            self._passing_over = False
            self._measure_from(self.done, fraction, now)
            return
        self._seen.append((now, self.done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - RATE_SECONDS:  # noqa: PLR2004 - two make a rate
            self._seen.popleft()

    @property
    def items(self) -> int:
        """Items since the place that is measured from."""
        return max(0, self.counts.read - self._first_read)

    @property
    def seconds(self) -> float:
        """From there to the last chunk."""
        return self._seen[-1][0] - self.began

    def plain_line_is_due(self, now: float) -> bool:
        """Every ten seconds, or at ten per cent more, but not more than once a second."""
        waited = now - self._said_at
        further = (self.fraction or 0.0) - self._said_fraction
        if waited < PLAIN_LINE_SECONDS and not (further >= 0.1 and waited >= 1.0):  # noqa: PLR2004 - see above
            return False
        self._said_at, self._said_fraction = now, self.fraction or 0.0
        return True

    def _measure_from(self, done: int, fraction: float | None, now: float) -> None:
        self.began, self._first_read = now, done
        self._first_fraction = fraction or 0.0
        self._seen = deque([(now, done)])

    def facts(self, now: float, memory: int) -> Sequence[str]:
        """What there is to say, the most important first."""
        counts = self.counts
        if self._passing_over:
            return [f"goes on after item {counts.read:,}"]
        rate = self._rate(now)
        parts = [f"{self.done:,} read", *([f"{rate:,.0f}/s"] if rate or not self.goes_on else [])]
        if self.fraction is not None:
            parts.insert(0, f"{self.fraction:.0%}")
            left = self._seconds_left(now)
            parts += [f"{duration(left)} left"] if left is not None else []
        parts += [f"{counts.failed:,} failed"] if counts.failed else []
        parts += [f"{counts.retried:,} retried"] if counts.retried else []
        parts += [self.longest_wait] if self.longest_wait else []
        return [*parts, size(memory)]

    def _rate(self, now: float) -> float:
        since, read = self._seen[0]
        return (self.done - read) / (now - since) if now > since else 0.0

    def _seconds_left(self, now: float) -> float | None:
        if self.fraction is None or self.fraction <= self._first_fraction:
            return None
        return (now - self.began) * (1.0 - self.fraction) / (self.fraction - self._first_fraction)


class _Memory:
    """This process's resident memory, looked at once a second at most."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic, self._looked_at, self._used = monotonic, float("-inf"), 0

    def used(self) -> int:
        now = self._monotonic()
        if now - self._looked_at >= 1.0:
            import psutil  # type: ignore[import-untyped]  # it ships no types

            self._looked_at, self._used = now, psutil.Process().memory_info().rss
        return self._used
