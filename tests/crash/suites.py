"""The suites that kill forked children, as functions, so that a planted bug can be put through each of them.

The one rule: a suite says which guarantees it proves; a bug that breaks one of them must show in it.
"""

from collections.abc import Callable, Iterable, Mapping

from tests.crash.faults import FRESH, POWER, Life, Schedule, at_every_point, at_random, nested

PLANTED_SEED, PLANTED_SCHEDULES = 2026, 200

Lives = Mapping[str, Life]


def every_point(lives: Lives) -> Iterable[Schedule]:
    """Every job, killed once at every point that it reaches."""
    return [schedule for job, life in lives.items() for schedule in at_every_point(job, life)]


def recoveries(lives: Lives) -> Iterable[Schedule]:
    """Every job, killed again while it recovers, up to three deep."""
    return [schedule for job, life in lives.items() for schedule in nested(job, life)]


def another_ledger(lives: Lives) -> Iterable[Schedule]:
    """Every job whose target knows how far it is, going on with an empty ledger after each kill."""
    jobs = [job for job in lives if job != "calls"]
    once = [schedule for job in jobs for schedule in at_every_point(job, lives[job], FRESH)][::3]
    return once + [
        Schedule(each.job, each.kills, frozenset({FRESH})) for job in jobs for each in nested(job, lives[job])[::2]
    ]


def power_cuts(lives: Lives) -> Iterable[Schedule]:
    """Files and tables, which lose at each kill what was not synced."""
    jobs = ("tables", "files")
    once = [schedule for job in jobs for schedule in at_every_point(job, lives[job], POWER)]
    deep = [Schedule(each.job, each.kills, frozenset({POWER})) for job in jobs for each in nested(job, lives[job])]
    return once + deep


def around_publishing(lives: Lives) -> Iterable[Schedule]:
    """Atomic steps, killed at every point from BEGIN to the advance of memory, above all the last times, and again."""
    points = ("K7", "K8", "K10", "K11", "K13")
    for job in ("staged", "once"):
        for number, (point, hit) in enumerate((p, h) for p in points for h in _last_and_some(lives[job].hits[p])):
            again = (f"{points[number % 5]}:1",) if number % 2 else ()
            yield Schedule(job, (f"{point}:{hit}", *again), frozenset({FRESH} if number % 3 == 0 else ()))


def _last_and_some(hits: int) -> Iterable[int]:
    """The last hits, each of them, and every fifth before."""
    return [hit for hit in range(1, hits + 1) if hit > hits - 6 or hit % 5 == 1]


def at_random_places(lives: Lives) -> Iterable[Schedule]:
    """A part of the sweep, of one seed."""
    return [at_random(PLANTED_SEED, number, lives) for number in range(PLANTED_SCHEDULES)]


SUITES: dict[str, Callable[[Lives], Iterable[Schedule]]] = {
    suite.__name__: suite
    for suite in (every_point, recoveries, another_ledger, power_cuts, around_publishing, at_random_places)
}
