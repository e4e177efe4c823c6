"""What staging tables have in common in every database: their names, and who may publish what.

The one rule: a step's rows are visible, or its checkpoint is unfinished; a transaction that does both or neither is the
only way from one to the other. The states of an atomic step, and what holds in each when the process dies:
  begun        chunks go to the staging table, each with its checkpoint, as they would go to the target
  exhausted    everything is staged: the next run publishes, or says again why it may not
  publishing   one transaction: rows into the target, `publish_if`, the staging table dropped, the finished mark;
               the target is asked which of "exhausted" and "finished" it is
  finished     the rows are there, the staging table is not
A run that goes on finds its staging table with its checkpoint, or goes on with nothing.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any

from batchwright.model.checkpoint import Checkpoint, Counts, StepKey
from batchwright.model.errors import DeclarationError, GroundChangedError, NotPublishedError, WriteError
from batchwright.model.guarantee import Fault
from batchwright.model.publication import Publication, Rows, Unpublished

ROW = "_batchwright_row"
"""The column that keeps the order of the input."""

STAGE = "stage"
"""The word in a checkpoint's state under which the staging table is named."""

BEGIN_AGAIN = "begin again with --again (run(…, again=True) in Python)"


def statement_refused(publication: Publication, address: str) -> DeclarationError:
    """The error of an atomic step that writes by a statement."""
    return DeclarationError(
        f"step '{publication.step}': what a statement does cannot be staged",
        address,
        "write with insert or upsert, or, if the input is small, atomic='transaction'",
    )


def require_stageable(publication: Publication, table: Any, address: str) -> None:
    """Raise DeclarationError for a writer whose rows cannot wait in a staging table."""
    if publication.one_transaction:
        return
    if table is None:
        raise statement_refused(publication, address)
    if table.version:
        raise DeclarationError(
            f"step '{publication.step}': rows that are compared by version= cannot be staged",
            address,
            "leave version out, since an atomic step writes in the order of its input; or write atomic='transaction'",
        )


def stage_prefix(key: StepKey) -> str:
    """How the names of all staging tables of this step begin, whatever the lap."""
    return f"_batchwright_{replace(key, lap=0).digest}_"


def stage_name(key: StepKey) -> str:
    """The staging table of this step in this lap."""
    return f"{stage_prefix(key)}{key.lap}"


def earlier_stages(key: StepKey, names: list[str]) -> list[str]:
    """Those of these tables that earlier laps of this step have left behind."""
    prefix = stage_prefix(key)
    laps = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    return [name for name, lap in laps.items() if lap.isdecimal() and int(lap) < key.lap]


def require_same_way(key: StepKey, checkpoint: Checkpoint, *, staged: bool) -> None:
    """Raise GroundChangedError if this work was begun with its outputs going elsewhere: part of them would be lost."""
    if checkpoint.finished or not checkpoint.counts.outputs or (STAGE in checkpoint.state) is staged:
        return
    outputs = f"{checkpoint.counts.outputs:,} outputs are"
    raise GroundChangedError(
        f"step '{key.step}' was begun {'without' if staged else 'with'} atomic=True",
        f"{outputs} in the target already" if staged else f"{outputs} in the staging table {checkpoint.state[STAGE]}",
        f"change it back, or {BEGIN_AGAIN}",
    )


def require_whole(step: str, stage: str, found: int | None, counts: Counts, *, merges: bool) -> None:
    """Raise GroundChangedError if a staging table has not what was staged. With `merges`, equal keys are one row."""
    if found == counts.outputs or (merges and found is not None and 0 < found <= counts.outputs):
        return
    raise GroundChangedError(
        f"step '{step}': its staging table is not as it was left",
        f"{counts.outputs:,} outputs were staged, {stage} {'is gone' if found is None else f'has {found:,} rows'}",
        f"restore it, or {BEGIN_AGAIN}",
    )


def filled_table(checkpoint: Checkpoint | None, table: Any, outputs: int) -> list[str]:
    """Where so many outputs of unfinished work are: in the staging table that the checkpoint names, or in the table."""
    if checkpoint is None or checkpoint.finished or not outputs:
        return []
    name = checkpoint.state.get(STAGE) or (table.name if table is not None else "")
    return [name] if name else []


def name_repeated_keys(
    errors: MutableMapping[int, BaseException], repeats_a_key: Callable[[BaseException], bool]
) -> None:
    """Say of rows that the staging table refused for their key what a person can understand."""
    for index, error in errors.items():
        if repeats_a_key(error):
            errors[index] = WriteError(
                "another row of this step has the same key", "", "duplicates='last' would publish the last"
            )


def require_agreement(
    publication: Publication,
    counts: Counts,
    staged: str,
    ask: Callable[[str, Any], Rows],
    classify: Callable[[BaseException], Fault],
) -> None:
    """Raise NotPublishedError unless `publish_if`, if there is one, says yes; a passing error goes through as it is."""
    if publication.publish_if is None:
        return
    try:
        answer = publication.publish_if(Unpublished(counts, staged, ask))
    except Exception as error:
        if classify(error) is Fault.TRANSIENT:
            raise
        words = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
        raise not_published(publication, f"publish_if raised {words}") from error
    if answer is None:
        raise not_published(publication, "publish_if returned None", "let it return True or False")
    if not answer:
        raise not_published(publication, "publish_if said no", "mend the data, or publish_if")


def not_published(publication: Publication, found: str, mend: str = "mend it") -> NotPublishedError:
    """The error of a step whose rows stay invisible, and what to do."""
    goes_on = "begins from the start" if publication.one_transaction else "publishes what is staged"
    return NotPublishedError(
        f"step '{publication.step}': nothing is published", found, f"{mend}; the next run {goes_on}"
    )
