"""Every runner into every kind of writer, killed at random: nothing lost, nothing twice.

`BATCHWRIGHT_SEED` replays a message's kills, as far as time lets it; `BATCHWRIGHT_MATRIX_ROUNDS` says how often each
place of the matrix is killed (one), one to three times in a row. By functions only chunks in flight come again.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.crash.fork_client import ROOT
from tests.crash.matrix_jobs import RUNNERS
from tests.postgres.server import running_server

PARTS = 2


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server(synchronous_commit="off") as server:
        yield server.url


def swept(seed: str, rounds: int, server: str, bug: str = "", parts: int = PARTS) -> dict[str, Any]:
    """The reports of all parts, which are swept side by side, in one."""
    given = [seed, "", str(rounds), server, bug]
    command = [sys.executable, "-m", "tests.crash.sweep_matrix"]
    sweeps = []
    for part in range(parts):
        given[1] = f"{part}/{parts}"
        sweeps.append(subprocess.Popen([*command, *given], cwd=ROOT, stdout=subprocess.PIPE, text=True))
    reports = [json.loads(sweep.communicate()[0]) for sweep in sweeps]
    total: dict[str, Any] = {"kills": dict.fromkeys(RUNNERS, 0)}
    for report in reports:
        kills = report.pop("kills")
        total["kills"] = {runner: known + kills.get(runner, 0) for runner, known in total["kills"].items()}
        for name, value in report.items():
            total[name] = total[name] + value if name in total else value
    return total


def test_every_runner_and_every_writer_killed_at_random_lose_nothing_and_repeat_nothing(
    server: str, capsys: pytest.CaptureFixture[str]
):
    seed = os.environ.get("BATCHWRIGHT_SEED") or str(random.randrange(10**6))
    report = swept(seed, int(os.environ.get("BATCHWRIGHT_MATRIX_ROUNDS") or 1), server)
    problems = report.pop("problems")
    with capsys.disabled():
        print(f"\n{report}, seed {seed}", file=sys.stderr)  # noqa: T201 - that is what it is run for
    assert not problems, f"BATCHWRIGHT_SEED={seed}: {report}\n" + "\n".join(problems[:5])
    assert (report["lost"], report["twice"]) == (0, 0)
    assert all(report["kills"].values())
    assert report["workers"]


@pytest.mark.parametrize("bug", ["checkpoint_outside_the_transaction", "blames_everybody"])
def test_a_planted_bug_is_caught(bug: str):
    found = (swept(str(seed), 2, "", bug, parts=1)["problems"] for seed in range(5))
    assert any(found)
