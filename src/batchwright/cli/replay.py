"""`batchwright replay`: give the failed items of a run to their step again."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchwright.cli.confirmation import require_yes
from batchwright.cli.documents import document
from batchwright.cli.histories import opened_history
from batchwright.cli.job_command import chosen_again, user_output_on_stderr
from batchwright.cli.next_commands import command, from_step_command
from batchwright.cli.shared_options import (
    debug_option,
    grace_option,
    json_option,
    ledger_option,
    run_argument,
    where_option,
)
from batchwright.cli.signals import StoppedAtOnce, show_past_buffers, signals_stop
from batchwright.cli.streams import say, write_json
from batchwright.engine.stop import Stop
from batchwright.job import Job
from batchwright.model.execution import JobExecution
from batchwright.observers.plain_text import printable

if TYPE_CHECKING:
    from batchwright.model.replay_result import Replayed, ReplayResult

STILL_OPEN, STOPPED = 3, 5


@click.command("replay")
@run_argument(required=True)
@click.option("--step", metavar="NAME", help="Only failures of this step.")
@where_option
@click.option("--accept-changed", is_flag=True, help="Take items that have moved or, if you say yes, changed.")
@click.option("--yes", is_flag=True, help="With --accept-changed: take items that are not what failed, do not ask.")
@click.option("--stored", is_flag=True, help="Take the items as they failed, from the ledger, not from the input.")
@click.option("--ignore", metavar="REASON", help="Close the failures without trying them, for this reason.")
@click.option("--reopen", is_flag=True, help="Open ignored failures again.")
@click.option("--dry-run", is_flag=True, help="Say what would be tried; call and write nothing.")
@grace_option
@json_option
@ledger_option
@debug_option
def replay_command(run: int, *, as_json: bool, grace: float, ledger: Path | str | None, **asked: Any) -> int:
    """Give the failed items of a run to their step again, after the cause is mended.

    The job is built again from its file; secrets are read from the environment. Exits with 3 if items fail again. It
    can be stopped as a run can; what it has not tried then stays open.
    """
    with opened_history(ledger) as opened:
        execution, path = opened.execution(run), opened.path
        if asked["step"] is not None:
            opened.require_step(execution, asked["step"])
    again = command("replay", str(run), *_as_options(asked), ledger=ledger)
    with user_output_on_stderr():
        try:
            result, signalled = _replay(execution, path, grace, asked)
        except StoppedAtOnce as stopped:
            say(f"stopped at once: what was replayed stays; go on with: {again}")
            return stopped.exit_code
    code = STILL_OPEN if result.still_open or result.refused else 0
    if result.stopped:
        code = signalled or STOPPED
    if as_json:
        write_json(_document(result, code))
    else:
        _say_result(result, execution, ledger, again, _to_look(asked, run, ledger))
    return code


def _as_options(asked: dict[str, Any]) -> Iterator[str]:
    """The options as they were given."""
    for name, value in asked.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            yield option
        elif value:
            for text in (value,) if isinstance(value, str) else value:
                yield from (option, text)


def _replay(
    execution: JobExecution, path: Path | str, grace: float, asked: dict[str, Any]
) -> tuple["ReplayResult", int | None]:
    """What the replay did, and the exit code of the signal that came meanwhile."""
    from batchwright.launch import replay

    chosen = chosen_again(execution)
    job = chosen.build() if chosen else None
    if asked["accept_changed"] and not asked["yes"] and not asked["dry_run"]:
        asked = {**asked, "yes": _accepts(execution, path, job, asked)}
    # The handlers know what to say of a signal only once they are there, and are made for this stop.
    stop = Stop(lambda reason: show_past_buffers(signals.notice(reason)))
    with signals_stop(stop, grace) as signals:
        result = replay(execution.id, ledger=path, job=job, stop=stop, **asked)
    return result, signals.exit_code


def _accepts(execution: JobExecution, path: Path | str, job: Job | None, asked: dict[str, Any]) -> bool:
    """Whether a person says yes to the items that are not what failed, after seeing both; True where there are none."""
    from batchwright.launch import replay

    seen = replay(execution.id, ledger=path, job=job, **{**asked, "dry_run": True})
    number = sum(step.unaccepted for step in seen.steps)
    if not number:
        return True
    for step in seen.steps:
        for reason in step.reasons:
            say(f"  {printable(reason)}")
    what = f"{number:,} {'item is' if number == 1 else 'items are'} not what failed"
    require_yes(what, f"{what}. Replay what stands there now?", given=False)
    return True


def _document(result: "ReplayResult", exit_code: int) -> dict[str, object]:
    return document(
        run=result.run or None,
        replayed=result.replayed,
        still_open=result.still_open,
        ignored=result.ignored,
        reopened=result.reopened,
        dry_run=result.dry_run,
        steps=[_step_document(step) for step in result.steps],
        refused=list(result.refused),
        stale=list(result.stale),
        warnings=list(result.warnings),
        stopped=result.stopped or None,
        exit_code=exit_code,
    )


def _to_look(asked: dict[str, Any], run: int, ledger: Path | str | None) -> str:
    """The same replay, which takes items that have moved, and asks about those that have changed; or nothing."""
    if asked["stored"] or asked["yes"] or (asked["accept_changed"] and not asked["dry_run"]):
        return ""
    asked = {**asked, "accept_changed": True, "dry_run": False}
    return command("replay", str(run), *_as_options(asked), ledger=ledger)


def _say_result(
    result: "ReplayResult", execution: JobExecution, ledger: Path | str | None, again: str, look: str
) -> None:
    for step in result.steps:
        say(f"{printable(step.step)}: {_became(step, dry_run=result.dry_run)}")
        for reason in step.reasons:
            say(f"  {printable(reason)}")
        if step.reasons and step.still_open > len(step.reasons):
            say(f"  and {step.still_open - len(step.reasons):,} more")
    if not (result.steps or result.refused):
        say(f"nothing to replay in run {execution.id}")
    for refused in result.refused:
        say(f"not replayed: {printable(refused)}")
    if result.stopped:
        say(f"{printable(result.stopped)}: what was not tried is still open")
        say(f"next: {again}")
    if look and any(step.changed for step in result.steps):
        say(f"next: {look} (shows what stands there now, and asks)")
    if result.still_open:
        say(f"next: {command('failures', str(execution.id), '--open', ledger=ledger)}")
    if result.stale:
        names = printable(", ".join(result.stale))
        rerun = printable(from_step_command(execution, result.stale, ledger))
        say(f"next: {rerun} (what follows was made without them: {names})")


def _became(step: "Replayed", *, dry_run: bool) -> str:
    if step.ignored or step.reopened:
        return f"{step.ignored:,} ignored" if step.ignored else f"{step.reopened:,} open again"
    changed = f", {step.changed:,} of them changed since" if step.changed else ""
    verb = "would be tried" if dry_run else "replayed"
    return f"{step.replayed:,} {verb}, {step.still_open:,} still open{changed}"


def _step_document(step: "Replayed") -> dict[str, object]:
    document = asdict(step)
    return {"name": document.pop("step"), **document, "reasons": list(step.reasons)}
