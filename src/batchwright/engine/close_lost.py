"""Close a run whose process died, with what its targets hold: it had reported to the ledger about once a second.

The one rule: a step says that its target was asked once everything that this brought is in the ledger, never before.

The states, and what holds in each when the process dies:
  lost      the run is live, and its owner gone: the next owner closes it
  closed    it is FAILED; of a step that was at work the ledger knows what it reported last, and that this is a part
  asked     counts and failures are those of the target. Where that could not be, since the target is away, locked or
            no longer the job's, the step stays closed, and whoever closes the run next asks again
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice

from batchwright.engine.run_step import FAILURES_AT_ONCE
from batchwright.engine.split_step import checkpoints_in, rows_of
from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.errors import FencedError
from batchwright.model.execution import TARGET_ASKED, JobExecution, StepExecution, StepOutcome
from batchwright.model.failure import Failure
from batchwright.model.partition import in_all
from batchwright.model.status import Status
from batchwright.ports import Clock, Ledger, Ownership, Scope, Settles
from batchwright.step import BoundStep


def close_lost(
    run: JobExecution | None, bound: Mapping[str, BoundStep], ledger: Ledger, clock: Clock, ownership: Ownership
) -> None:
    """Close this run if it is live, and bring into the ledger what it did not report. The caller owns the work.

    Raises FencedError if that is no longer so.
    """
    if run is None:
        return
    if run.status.live:
        ledger.close_lost(run.key)
    for name in run.steps:
        key = run.key.step(run.lap, name)
        last = ledger.last_step(key)
        if name in bound and last is not None and last.target == bound[name].step.target_address:
            scope = Scope(key, ledger, clock, claims=True, owned=ownership.check)
            _ask_target(bound[name], last, scope, ledger)


def _ask_target(bound: BoundStep, last: StepExecution, scope: Scope, ledger: Ledger) -> None:
    if not last.known_in_part:
        return
    try:
        with closing(bound.writer.open(scope)) as sink:
            checkpoint = sink.recall()
            parts = checkpoints_in(sink, checkpoint)
            if parts is None:
                counts = None if checkpoint is None else checkpoint.counts
                failures = sink.failures() if isinstance(sink, Settles) else iter(())
            else:
                _note_partitions(scope.key, parts, rows_of(sink).failures(), ledger)
                counts, failures = in_all(parts.values()), iter(())
            _note(last, counts, failures, ledger)
    except FencedError:
        raise
    except Exception:  # noqa: BLE001 - a target that is away keeps no work from being left; the step says it was not asked
        return


def _note_partitions(
    key: StepKey, parts: Mapping[int, Checkpoint], failures: Iterator[Failure], ledger: Ledger
) -> None:
    of_part = defaultdict[int, list[Failure]](list)
    for failure in failures:
        of_part[failure.partition].append(failure)
    for number, checkpoint in parts.items():
        last = ledger.last_step(replace(key, partition=number))
        if last is not None and last.known_in_part:
            _note(last, checkpoint.counts, iter(of_part[number]), ledger)


def _note(last: StepExecution, counts: Counts | None, failures: Iterator[Failure], ledger: Ledger) -> None:
    if last.counts.read > (0 if counts is None else counts.read):
        return  # it lacks what it had: what was reported is the most that is known
    told = StepOutcome(Status.FAILED, counts or last.counts, last.seconds, last.peak_memory_bytes, last.error)
    told = replace(told, target_identity=last.target_identity, waits=last.waits)
    while batch := list(islice(failures, FAILURES_AT_ONCE)):
        ledger.note_lost(last.id, told, batch)
    ledger.note_lost(last.id, replace(told, error=f"{last.error}; {TARGET_ASKED}"), ())
