"""A runner on processes, for functions that keep Python busy, or that may take their process with them.

The one rule: a worker process may die at any moment, of any item; that is its item's failure and nobody else's.

    starting ──ready──► idle ◄──────► busy (two pieces of work at most) ──enough items──► retiring ──► ended
        │                 │             │ exit, signal, or killed past the item's deadline
        └─────── died ────┴─────────────┴──► died

What holds when a worker has died: the outcomes it had sent are taken in first. The first piece without an outcome is
the one it died of, since pieces are done in order; it is divided or judged (`process_pieces`). The others it had were
not begun and are given to another worker. A worker that dies before it is ready, or idle, blames nobody; the third in a
row that is never ready ends the step. Nothing is committed here: when the run itself dies, all of it is done again; but
what a death says of a single item is noted by the task before that is tried again, and comes back with the next run.
"""

import time
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from batchwright.model.errors import NotSendableError, WorkerDiedError
from batchwright.model.exits import in_words
from batchwright.model.sizes import bytes_in
from batchwright.model.timeouts import check_count
from batchwright.model.work import Death, Outcome, Work
from batchwright.ports.runners import Task, Tells, Workers
from batchwright.runners.process_deaths import error_of
from batchwright.runners.process_messages import (
    DONE,
    READY,
    REFUSED,
    STOP,
    TASK,
    TOLD,
    UNREADABLE,
    WORK,
    Line,
    pack,
    pack_with_modules,
    unpack,
)
from batchwright.runners.process_nursery import Nursery
from batchwright.runners.process_outcomes import unpack_error, unpack_outcome
from batchwright.runners.process_pieces import Piece, Whole, after_deaths, begin, judged, parts_of

AT_ONCE = 2
"""Pieces with a worker: one in work, and the next, so that it never waits."""

START_SECONDS = 120.0
"""How long a worker may take to load the step's function."""

STARTS = 3


@dataclass(frozen=True, slots=True)
class Processes:
    """So many processes on this machine; they are started as they are needed and end with the step.

    The function, its items and its outputs go between processes: it stands at the top of a module, or its job was built
    with `Job.of`. A process that dies of an item, or exceeds the step's `item_timeout_seconds`, is replaced; the item
    fails with a WorkerDiedError or a TimeoutError. After `recycle_after` items a process is replaced by a fresh one.
    `memory_limit`, in bytes or as in "2 GB", bounds the address space of each: what asks for more gets a MemoryError.
    """

    workers: int
    recycle_after: int | None = None
    memory_limit: int | str | None = None
    together: bool = field(default=False, init=False)
    apart: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_count("Processes: workers", self.workers)
        if self.recycle_after is not None:
            check_count("Processes: recycle_after", self.recycle_after)
        self._bytes()

    def start(self, task: Task) -> Workers:
        """Processes for one step. Raises NotSendableError if its task cannot be pickled."""
        return ProcessWorkers(task, self, self._bytes())

    def for_partitions(self) -> "Processes":
        """See `TakesPartitions`."""
        return Processes(self.workers)

    def for_one(self) -> "Processes":
        """See `TakesPartitions`."""
        return replace(self, workers=1)

    @property
    def bounds_items(self) -> bool:
        """See `TakesPartitions`."""
        return self.recycle_after is not None or self.memory_limit is not None

    def _bytes(self) -> int | None:
        return None if self.memory_limit is None else bytes_in(self.memory_limit, "Processes: memory_limit")


@dataclass(eq=False, slots=True)
class _Worker:
    """One process. `began` is when its first piece was begun, or, until it is ready, when it was started."""

    key: int
    line: Line
    began: float
    pieces: deque[Piece] = field(default_factory=deque)
    ready: bool = False
    retiring: bool = False
    given: int = 0
    condemned: Piece | None = None
    registered: bool = True
    writing: bool = False


class ProcessWorkers:
    """See `Workers`. All of it is done by the thread that runs the step, while it waits for outcomes."""

    def __init__(self, task: Task, how: Processes, memory_limit: int | None) -> None:
        """Start the nursery; workers are started as they are needed."""
        self._task, self._how = task, how
        try:
            self._packed_task, modules = pack_with_modules(task)
        except Exception as error:
            raise NotSendableError("the step's function or policies", type(task), str(error)) from error
        self._waiting: deque[Piece] = deque()
        self._wholes: dict[int, Whole] = {}
        self._done: deque[Outcome] = deque()
        self._workers: dict[int, _Worker] = {}
        self._numbers = count()
        self._stillborn, self._told_to_stop = 0, False
        self._nursery = Nursery(sorted(name for name in modules if name.startswith("batchwright.")), memory_limit)
        self._selector = DefaultSelector()
        self._selector.register(self._nursery, EVENT_READ)

    def submit(self, work: Work) -> None:
        """See `Workers`."""
        whole = Whole(work)
        whole.pieces += begin(whole, self._numbers)
        self._wholes[work.number] = whole
        for piece in list(whole.pieces):
            if piece.suspected:
                self._try_or_judge(piece, work.deaths[piece.first])
            else:
                self._waiting.append(piece)
        self._hand_out()

    def collect(self, timeout_seconds: float) -> Outcome | None:
        """See `Workers`."""
        until = time.monotonic() + timeout_seconds
        while not self._done:
            self._pass_on_stop()
            self._hand_out()
            now = time.monotonic()
            if self._done or now > until:
                break
            self._listen(max(0.0, self._next_look(now, until) - now))
            self._end_what_is_late()
        return self._done.popleft() if self._done else None

    def cancel(self) -> None:
        """See `Workers`."""
        self._waiting.clear()
        self._wholes.clear()

    def close(self) -> None:
        """See `Workers`. What is in work is not waited for: a process can be ended."""
        self.cancel()
        self._selector.close()
        self._nursery.close()
        for worker in self._workers.values():
            worker.line.close()
        self._workers.clear()

    def _hand_out(self) -> None:
        """Give each worker what it can take; idle ones first, then new ones, then the next piece for busy ones."""
        now = time.monotonic()
        for _ in range(len(self._waiting)):
            piece = self._waiting.popleft()
            worker = self._worker_for(piece, now) if self._is_wanted(piece) else None
            if worker is not None:
                self._give(worker, piece)
            elif self._is_wanted(piece):
                self._waiting.append(piece)
        if len(self._waiting) > 1:
            self._waiting = deque(sorted(self._waiting, key=lambda piece: (piece.whole.work.number, piece.first)))

    def _is_wanted(self, piece: Piece) -> bool:
        return piece.outcome is None and self._wholes.get(piece.whole.work.number) is piece.whole

    def _worker_for(self, piece: Piece, now: float) -> _Worker | None:
        if piece.not_before > now:
            return None
        able = [each for each in self._workers.values() if each.registered and not (each.retiring or each.condemned)]
        best = min(able, key=lambda worker: len(worker.pieces), default=None)
        if (best is None or best.pieces) and len(able) < self._how.workers:
            return self._start_one()
        return best if best is not None and len(best.pieces) < AT_ONCE else None

    def _start_one(self) -> _Worker:
        key = next(self._numbers)
        worker = _Worker(key, self._nursery.start(key), time.monotonic())
        self._workers[key] = worker
        self._selector.register(worker.line, EVENT_READ, worker)
        worker.line.send(TASK, self._packed_task)
        if self._told_to_stop:
            worker.line.send(STOP)
        self._watch_writing(worker)
        return worker

    def _give(self, worker: _Worker, piece: Piece) -> None:
        try:
            packed = pack(Work(piece.number, piece.items))
        except Exception as error:  # noqa: BLE001 - anything can be wrong with a user's object
            self._refuse(piece, "the item", str(error))
            return
        if not worker.pieces and worker.ready:
            worker.began = time.monotonic()
        worker.pieces.append(piece)
        worker.given += len(piece.items)
        worker.line.send(WORK, pack((piece.number, packed)))
        self._watch_writing(worker)
        if self._how.recycle_after is not None and worker.given >= self._how.recycle_after:
            worker.retiring = True

    def _refuse(self, piece: Piece, what: str, why: str) -> None:
        """Something cannot go from process to process: find the item, and judge it."""
        if len(piece.items) > 1:
            self._divide(piece)
        else:
            self._conclude(piece, judged(piece, NotSendableError(what, type(piece.items[0]), why), self._task))

    def _divide(self, piece: Piece) -> None:
        numbers = [next(self._numbers) for _ in range(parts_of(piece))]
        self._waiting.extendleft(reversed(piece.whole.divide(piece, numbers)))

    def _conclude(self, piece: Piece, outcome: Outcome) -> None:
        piece.outcome = after_deaths(piece, outcome)
        whole = piece.whole
        found = whole.outcome()
        if found is not None and self._wholes.pop(whole.work.number, None) is not None:
            self._done.append(found)

    def _pass_on_stop(self) -> None:
        """Tell the workers once; what they have not begun is not begun any more."""
        if not self._task.stopping:
            return
        if not self._told_to_stop:
            self._told_to_stop = True
            for worker in self._workers.values():
                worker.line.send(STOP)
                self._watch_writing(worker)
        for piece in list(self._waiting):
            if self._is_wanted(piece):
                self._conclude(piece, Outcome(piece.number))
        self._waiting.clear()

    def _next_look(self, now: float, until: float) -> float:
        limit = self._task.item_timeout_seconds
        looks = [until, *(piece.not_before for piece in self._waiting if piece.not_before > now)]
        if limit is not None:
            looks += [worker.began + limit for worker in self._workers.values() if worker.ready and worker.pieces]
        return min(looks)

    def _listen(self, seconds: float) -> None:
        """Take in what has come, waiting at most so long for it."""
        for key, events in self._selector.select(seconds):
            worker: _Worker | None = key.data
            if worker is None:
                self._bury()
            elif worker.registered:
                if events & EVENT_WRITE:
                    worker.line.flush()
                    self._watch_writing(worker)
                if events & EVENT_READ:
                    self._hear(worker)

    def _hear(self, worker: _Worker) -> None:
        for kind, message in worker.line.receive():
            if kind == READY:
                worker.ready, worker.began, self._stillborn = True, time.monotonic(), 0
            elif kind == DONE:
                self._take_in(worker, message)
            elif kind == UNREADABLE:
                piece = worker.pieces.popleft()
                worker.began = time.monotonic()
                self._refuse(piece, "the item", unpack(message)[1])
            elif kind == TOLD and isinstance(self._task, Tells):
                self._task.hear(unpack(message))
            elif kind == REFUSED:
                self._break(unpack_error(unpack(message)))
        if worker.line.closed:
            self._forget(worker)
        elif worker.retiring and not worker.pieces:
            self._forget(worker)
            worker.line.close()

    def _take_in(self, worker: _Worker, message: bytes) -> None:
        piece = worker.pieces.popleft()
        worker.began = time.monotonic()
        if not self._is_wanted(piece):
            return
        try:
            outcome = unpack_outcome(message)
        except Exception as error:  # noqa: BLE001 - a result that could be pickled there, and cannot be made here
            self._refuse(piece, "the result for an item", str(error))
            return
        self._conclude(piece, outcome)

    def _forget(self, worker: _Worker) -> None:
        """Nothing more comes from it; how it ended is for the nursery to say."""
        if worker.registered:
            worker.registered = False
            self._selector.unregister(worker.line)

    def _watch_writing(self, worker: _Worker) -> None:
        if worker.registered and worker.writing != worker.line.unsent:
            worker.writing = worker.line.unsent
            self._selector.modify(worker.line, EVENT_READ | (EVENT_WRITE if worker.writing else 0), worker)

    def _bury(self) -> None:
        try:
            deaths = self._nursery.deaths()
        except EOFError:
            if not self._wholes:
                return  # nobody waits; that it is gone is seen again as soon as there is work
            self._selector.unregister(self._nursery)
            self._break(self._died(-9, "the process that starts the workers is gone", "see what has ended it"))
            return
        for key, code in deaths:
            worker = self._workers.pop(key)
            if worker.registered:
                self._hear(worker)
                self._forget(worker)
            worker.line.close()
            self._look_into(worker, code)

    def _look_into(self, worker: _Worker, code: int) -> None:
        """Find who is to blame for a death."""
        if not worker.pieces and worker.ready:
            return
        if not worker.ready:
            self._stillborn += 1
            if worker.condemned:
                mend = "see what its module does when it is loaded"
                self._break(self._died(code, f"it took {START_SECONDS:g} s to load the step's function", mend))
            elif self._stillborn >= STARTS:
                mend = "see what it wrote to standard error; a memory_limit may be too low"
                self._break(self._died(code, f"it {in_words(code)} before it had loaded the step's function", mend))
        elif not worker.condemned or worker.pieces[0] is worker.condemned:
            self._blame(worker.pieces.popleft(), code, worker)
        self._waiting.extendleft(reversed(worker.pieces))

    def _blame(self, piece: Piece, code: int, worker: _Worker) -> None:
        if not self._is_wanted(piece):
            return
        if len(piece.items) > 1:
            self._divide(piece)
            return
        late = worker.condemned is not None
        piece.attempts += piece.suspected or late
        piece.suspected = True
        death = Death(piece.attempts, None if late else code)
        self._task.note_death(piece.whole.work, piece.first, death)
        self._try_or_judge(piece, death)

    def _try_or_judge(self, piece: Piece, death: Death) -> None:
        """What comes next for an item over which a worker has died alone."""
        error = error_of(self._task, death)
        wait = self._task.wait_before(error, death.attempts) if death.attempts else 0.0
        if wait is None:
            outcome = judged(piece, error, self._task)
            piece.attempts = 0  # they are in the outcome
            self._conclude(piece, outcome)
        else:
            piece.not_before = time.monotonic() + wait
            self._waiting.appendleft(piece)

    def _died(self, code: int, found: str, mend: str) -> WorkerDiedError:
        return WorkerDiedError(self._task.step, code, found, mend)

    def _break(self, error: BaseException) -> None:
        """The step cannot go on."""
        number = min(self._wholes, default=0)
        self._wholes.clear()
        self._done.append(Outcome(number, broken=error))

    def _end_what_is_late(self) -> None:
        """End workers over whose item the time is over; what they sent in time has been taken in."""
        now, limit = time.monotonic(), self._task.item_timeout_seconds
        for worker in self._workers.values():
            if worker.condemned or not worker.pieces:
                continue
            seconds = limit if worker.ready else START_SECONDS
            if seconds is not None and now - worker.began > seconds:
                worker.condemned = worker.pieces[0]
                self._nursery.kill(worker.key)
