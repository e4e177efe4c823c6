"""How far the partitions of a step are, for `show`.

The one rule: it is the ledger's word; the targets are not asked.
"""

from collections.abc import Sequence
from typing import Any

from batchwright.model.execution import StepExecution
from batchwright.model.partition import plan_of
from batchwright.ports import History

SHOWN = 20


def partition_facts(history: History, step: StepExecution) -> list[tuple[str, object]]:
    """One line about a step in partitions; none about any other."""
    known = _standing(history, step)
    if known is None:
        return []
    total, left = known
    named = ", ".join(f"{number} ({word})" for number, word in left[:SHOWN])
    more = f" and {len(left) - SHOWN:,} more" if len(left) > SHOWN else ""
    unfinished = f"; not finished: {named}{more}" if left else ""
    return [("partitions", f"{total - len(left):,} of {total:,} finished{unfinished}")]


def partitions_document(history: History, steps: Sequence[StepExecution]) -> dict[str, Any]:
    """The same for `--json`, by step."""
    found = {step.key.step: _standing(history, step) for step in steps}
    return {
        name: {"total": known[0], "unfinished": [{"partition": number, "status": word} for number, word in known[1]]}
        for name, known in found.items()
        if known is not None
    }


def _standing(history: History, step: StepExecution) -> tuple[int, list[tuple[int, str]]] | None:
    """How many partitions a step has, and those that are not finished, each with how it stands."""
    specs = plan_of(history.load_checkpoint(step.key))
    if specs is None:
        return None
    if step.status.complete:
        return len(specs), []
    known = {found.key.partition: found.status for found in history.partitions(step.run, step.key.step)}
    left = [number for number in range(1, len(specs) + 1) if not (number in known and known[number].complete)]
    return len(specs), [(number, known[number].value if number in known else "waiting") for number in left]
