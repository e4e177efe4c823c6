"""Loops of different kinds, before and after: killed at random and started again, each ends as it did before.

`BATCHWRIGHT_LOOP_KILLS=20` kills each loop so often; `BATCHWRIGHT_SEED` repeats what a message names.
"""

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.examples.loops.folders import KILLED, outcome, prepare, start

LOOPS = ("csv_import", "fix_up", "api_pages", "directory_walk", "report", "split", "balance", "scoring")

SCHEDULES = int(os.environ.get("BATCHWRIGHT_LOOP_KILLS") or 2)

SEED = os.environ.get("BATCHWRIGHT_SEED") or str(random.randrange(10**6))

MOST_KILLS = 3


def kill_until_done(loop: str, folder: Path, chance: random.Random, lines: int, bug: str = "-") -> int:
    """Kill a loop up to three times, then let it end: how often it was killed."""
    for kills in range(MOST_KILLS):
        code, printed = start(f"{loop}_after", folder, kill=f"line:{chance.randint(1, lines)}", bug=bug)
        if code != KILLED:
            assert code == 0, printed
            return kills
    code, printed = start(f"{loop}_after", folder, bug=bug)
    assert code == 0, printed
    return MOST_KILLS


def expected_of(loop: str, folder: Path) -> tuple[Counter[str], int]:
    """What the script leaves that is not resumable, and how many lines of ours the other one executes."""
    before = prepare(folder / "before")
    code, printed = start(f"{loop}_before", before)
    assert code == 0, printed
    after = prepare(folder / "after")
    code, printed = start(f"{loop}_after", after, kill="count")
    assert code == 0, printed
    assert outcome(after) == outcome(before)
    return outcome(before), int(printed.split()[-1])


@pytest.mark.crash
@pytest.mark.parametrize("loop", LOOPS)
def test_killed_at_random_and_started_again_a_loop_ends_as_it_did_before(loop: str, tmp_path: Path):
    expected, lines = expected_of(loop, tmp_path)
    killed = 0
    for number in range(SCHEDULES):
        folder = prepare(tmp_path / str(number))
        killed += kill_until_done(loop, folder, random.Random(f"{SEED}{loop}{number}"), lines)
        assert outcome(folder) == expected, f"seed {SEED}"
        code, printed = start(f"{loop}_after", folder)
        assert (code, outcome(folder)) == (0, expected), printed
    assert killed, f"nothing was killed with seed {SEED}"


POINTS = ("K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10", "K11", "K13", "K21", "K22")


@pytest.mark.crash
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_of_its_life_it_does_so_too(point: str, tmp_path: Path):
    before = prepare(tmp_path / "before")
    assert start("balance_before", before)[0] == 0
    folder, kills = prepare(tmp_path / "after"), 0
    for hit in (1, 2, 1):
        code, printed = start("balance_after", folder, kill=f"{point}:{hit}")
        assert code in (0, KILLED), printed
        kills += code == KILLED
    code, printed = start("balance_after", folder)
    assert (code, outcome(folder)) == (0, outcome(before)), printed
    assert kills


@pytest.mark.crash
def test_a_mailing_sends_each_mail_and_a_second_one_only_to_whom_was_in_hand(tmp_path: Path):
    before = prepare(tmp_path / "before")
    assert start("mailing_before", before)[0] == 0
    once = prepare(tmp_path / "once")
    code, printed = start("mailing_after", once, kill="count")
    assert code == 0, printed
    lines, expected = int(printed.split()[-1]), (before / "outbox.txt").read_text().splitlines()
    assert (once / "outbox.txt").read_text().splitlines() == expected
    for number in range(SCHEDULES):
        folder = prepare(tmp_path / str(number))
        kills = kill_until_done("mailing", folder, random.Random(f"{SEED}mailing{number}"), lines)
        sent = (folder / "outbox.txt").read_text().splitlines()
        assert list(dict.fromkeys(sent)) == expected, f"seed {SEED}"
        assert len(sent) - len(expected) <= kills, f"seed {SEED}"


@pytest.mark.crash
def test_a_body_that_commits_apart_from_the_checkpoint_would_be_seen(tmp_path: Path):
    expected, lines = expected_of("balance", tmp_path)
    seen = False
    for number in range(6):
        folder = prepare(tmp_path / str(number))
        kill_until_done("balance", folder, random.Random(f"planted{number}"), lines * 8 // 10, bug="apart")
        seen = seen or outcome(folder) != expected
        if seen:
            return
    raise AssertionError("nobody has noticed")
