"""`batchwright worker`: join a run that is going on, and work on partitions of its steps until there are none."""

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchwright.cli.documents import document
from batchwright.cli.histories import opened_history
from batchwright.cli.job_command import chosen_again, user_output_on_stderr
from batchwright.cli.next_commands import command
from batchwright.cli.option_types import WholeNumber
from batchwright.cli.run import EXIT_CODES, FAILED, STOPPED, WITH_FAILURES
from batchwright.cli.shared_options import debug_option, grace_option, json_option, ledger_option, run_argument
from batchwright.cli.signals import StoppedAtOnce, show_past_buffers, signals_stop
from batchwright.cli.streams import say, write_json
from batchwright.engine.stop import Stop
from batchwright.job import Job
from batchwright.model.status import Status
from batchwright.observers.plain_text import balance, printable

if TYPE_CHECKING:
    from batchwright.joining import JoinOptions, JoinResult

CODES = {Status.FAILED: FAILED, Status.STOPPED: STOPPED, Status.COMPLETED_WITH_FAILURES: WITH_FAILURES}


@click.command("worker", epilog=EXIT_CODES)
@run_argument(required=True)
@click.option(
    "--workers", type=WholeNumber(1), default=1, metavar="N", help="How many partitions at once; 1 by default."
)
@click.option("--index", type=WholeNumber(0), metavar="N", help="Which of several workers this is: where to begin.")
@click.option("--of", "of", type=WholeNumber(1), metavar="N", help="How many workers there are.")
@click.option("--max-failures", metavar="N|P%", help="As given to the run that is joined.")
@click.option("--parent", type=WholeNumber(1), hidden=True)
@grace_option
@json_option
@ledger_option
@debug_option
def worker_command(
    run: int, *, ledger: Path | str | None, grace: float, as_json: bool, **given: int | str | None
) -> int:
    """Join a run from this process: work on partitions of its steps until there are none.

    Any number of workers may join, on any machine that reaches the ledger, the input and the target; one may be killed
    at any time. The job is built again from its file; secrets are read from the environment. Which of an array's tasks
    this is, Kubernetes, AWS Batch, Cloud Run and Slurm say in the environment.
    """
    from batchwright.joining import JoinOptions, index_hint

    index, of = index_hint(os.environ)
    index = index if given["index"] is None else int(given["index"])
    of = of if given["of"] is None else int(given["of"])
    with opened_history(ledger) as opened:
        chosen = chosen_again(opened.execution(run))
        path = opened.path
    parent = None if given["parent"] is None else int(given["parent"])
    options = JoinOptions(int(given["workers"] or 1), index, of, given["max_failures"], parent)
    try:
        with user_output_on_stderr() if as_json else nullcontext():
            result, signalled = _join(run, path, chosen.build() if chosen else None, (options, grace))
    except StoppedAtOnce as stopped:
        say("stopped at once: what was committed stays; others take its partitions")
        return stopped.exit_code
    if result.error is not None:
        raise result.error
    code = CODES.get(result.status, 0)
    if result.lost and result.status.complete:
        code = STOPPED
    _tell(result, signalled or code, as_json=as_json, ledger=ledger)
    return signalled or code


def _join(
    run: int, path: Path | str, job: Job | None, how: "tuple[JoinOptions, float]"
) -> "tuple[JoinResult, int | None]":
    from batchwright.joining import join

    options, grace = how
    stop = Stop(lambda reason: show_past_buffers(signals.notice(reason)))
    with signals_stop(stop, grace) as signals:
        result = join(run, ledger=path, job=job, options=options, stop=stop)
    return result, signals.exit_code


def _tell(result: "JoinResult", code: int, *, as_json: bool, ledger: Path | str | None) -> None:
    if as_json:
        unfinished = result.unfinished
        steps = [
            {
                "name": name,
                "read": counts.read,
                "failed": counts.failed,
                "read_by_this_worker": result.own[name].read,
                "unfinished_partitions": unfinished.get(name, 0),
            }
            for name, counts in result.steps.items()
        ]
        write_json(document(run=result.run, status=result.status.value, steps=steps, exit_code=code))
        return
    for name, counts in result.steps.items():
        left = result.unfinished.get(name, 0)
        more = f" so far; {left:,} {'partition is' if left == 1 else 'partitions are'} not finished" if left else ""
        say(f"{printable(name)}: {balance(result.own[name])}, by this worker")
        say(f"{printable(name)}: {balance(counts)}, over all workers{more}")
    if result.reason:
        say(f"{printable(result.reason)}: what is not finished is left to others")
    if result.lost:
        say("the process that started the run is gone: the step is finished by whoever goes on with it")
        say(f"next: {command('resume', str(result.run), ledger=ledger)}")
