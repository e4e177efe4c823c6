"""`batchwright show`: everything about one run."""

from collections.abc import Sequence
from pathlib import Path

import click

from batchwright.cli.documents import document, effects_document, execution_document, group_document, plain_parameters
from batchwright.cli.histories import OpenedHistory, opened_history
from batchwright.cli.interrupted import Interrupted
from batchwright.cli.next_commands import next_commands
from batchwright.cli.partitions import partition_facts, partitions_document
from batchwright.cli.shared_options import json_option, ledger_option, run_argument
from batchwright.cli.streams import say, write_json
from batchwright.cli.tables import (
    ERROR_WIDTH,
    cut,
    short_place,
    write_facts,
    write_fitting,
    write_heading,
)
from batchwright.engine.name_checks import name_checks
from batchwright.model.effect import EffectCount
from batchwright.model.execution import FailureGroup, JobExecution, StepExecution
from batchwright.observers.plain_text import balance, duration, printable, size

CAUSES_SHOWN = 10


@click.command("show")
@run_argument(required=False)
@json_option
@ledger_option
def show_command(run: int | None, as_json: bool, ledger: Path | str | None) -> None:
    """Show everything about a run, by default the latest that is no replay.

    Counts are those of its lap, over all attempts.
    """
    with opened_history(ledger) as opened:
        execution = opened.execution(run)
        steps = opened.history.steps(execution.id)
        groups = opened.history.failure_groups(execution.id)
        counts = opened.history.effect_counts(execution.id)
        commands = next_commands(opened.situation(execution, groups), opened.named)
        interrupted = Interrupted.found(opened, execution)
        if as_json:
            causes = [group_document(group) for group in groups]
            content = execution_document(execution, steps, opened.replayed_run(execution))
            content["status_now"] = opened.status_now(execution).value
            content["last_report"] = opened.last_report(execution) or None
            write_json(
                document(
                    **content,
                    causes=causes,
                    effects=effects_document(counts),
                    partitions=partitions_document(opened.history, steps),
                    ledger=opened.history.address,
                    next=commands,
                    **interrupted.document(),
                )
            )
            return
        if warning := opened.last_report(execution):
            say(warning)
        _write_run(execution, opened)
        for step in steps:
            more = [*partition_facts(opened.history, step), *_unpublished(step, execution)]
            _write_step(step, [group for group in groups if group.step == step.key.step], more)
        _write_checks(name_checks(execution, steps))
        _write_effects(counts)
        _write_causes(groups)
        interrupted.write()
        for command in commands:
            say(f"next: {printable(command)}")


def _write_run(execution: JobExecution, opened: OpenedHistory) -> None:
    write_facts(_run_facts(execution, opened))
    if execution.parameters:
        write_heading("parameters")
        write_facts(plain_parameters(execution.parameters).items(), indent="  ")


def _run_facts(execution: JobExecution, opened: OpenedHistory) -> list[tuple[str, object]]:
    replayed, now = opened.replayed_run(execution), opened.status_now(execution)
    since = "" if now is execution.status else f" ({now.value} now: each failure was replayed or ignored)"
    facts: list[tuple[str, object]] = [
        ("run", execution.id),
        ("job", execution.job),
        ("status", f"{execution.status.value}{since}"),
        ("lap", execution.lap),
        ("kind", execution.kind if replayed is None else f"replay of run {replayed}"),
        ("started", f"{execution.started_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if execution.ended_at is not None:
        facts.append(("ended", f"{execution.ended_at:%Y-%m-%d %H:%M:%S} UTC"))
        facts.append(("took", duration((execution.ended_at - execution.started_at).total_seconds())))
    facts.append(("process", f"{execution.pid} on {execution.host}"))
    if execution.origin is not None:
        facts.append(("origin", execution.origin))
    facts.append(("ledger", opened.history.address))
    if execution.version:
        facts.append(("version", f"batchwright {execution.version}"))
    if execution.stop_requested:
        facts.append(("stop asked", f"by {execution.stop_requested}"))
    return [*facts, ("error", execution.error)] if execution.error else facts


def _unpublished(step: StepExecution, execution: JobExecution) -> list[tuple[str, object]]:
    """That nobody sees anything of an atomic step before it is complete."""
    how = execution.atomic.get(step.key.step)
    if how is None or step.status.complete:
        return []
    return [("published", "nothing" if how == "transaction" else "nothing; what is counted here is staged")]


def _write_step(step: StepExecution, groups: Sequence[FailureGroup], more: Sequence[tuple[str, object]]) -> None:
    write_heading(f"step {printable(step.key.step)}: {step.status.value}")
    counts = step.counts
    facts: list[tuple[str, object]] = [
        ("counts", f"{balance(counts)}{_became(groups)}"),
        *more,
        ("outputs", f"{counts.outputs:,}, {counts.retried:,} retried, {counts.rollbacks:,} chunks rolled back"),
        ("time", f"{duration(step.seconds)} in run {step.run}"),
        *([("waited for", str(step.waits))] if str(step.waits) else []),
        ("peak memory", size(step.peak_memory_bytes)),
        ("reads", step.source),
        ("writes", f"{step.target} ({step.guarantee})"),
    ]
    write_facts([*facts, ("error", step.error)] if step.error else facts, indent="  ")


def _became(groups: Sequence[FailureGroup]) -> str:
    """What became of the failures, once a replay has taken them up."""
    still_open = sum(group.open for group in groups)
    ignored = sum(group.ignored for group in groups)
    replayed = sum(group.count for group in groups) - still_open - ignored
    if not (replayed or ignored):
        return ""
    told = f"{replayed:,} replayed, {ignored:,} ignored, {still_open:,} open" if ignored else None
    return f" ({told or f'{replayed:,} replayed, {still_open:,} open'})"


def _write_checks(checks: Sequence[str]) -> None:
    if checks:
        write_heading("compared before it goes on")
        write_facts(((str(number), check) for number, check in enumerate(checks, 1)), indent="  ")


def _write_effects(counts: Sequence[EffectCount]) -> None:
    if counts:
        write_heading("effects outside")
        for step, states in effects_document(counts).items():
            told = ", ".join(f"{number:,} {state}" for state, number in states.items())
            write_facts([(printable(step), told)], indent="  ")


def _write_causes(groups: Sequence[FailureGroup]) -> None:
    if not groups:
        return
    write_heading("failures by cause")
    columns = ("#count", "#open", "step", "phase", "error", "first at")
    rows = [_cause_row(group) for group in groups[:CAUSES_SHOWN]]
    write_fitting(columns, rows, place=5, below=(4,))


def _cause_row(group: FailureGroup) -> tuple[str, ...]:
    return (
        f"{group.count:,}",
        f"{group.open:,}",
        group.step,
        group.phase,
        cut(_cause(group), ERROR_WIDTH),
        short_place(group.first_place),
    )


def _cause(group: FailureGroup) -> str:
    return f"{group.error_type}: {group.message}"
