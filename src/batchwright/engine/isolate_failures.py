"""Find the items that a target refuses without saying which: commit the chunk in ever smaller parts.

The one rule: each part is a chunk of its own, with its own checkpoint, so that a crash in between loses nothing.
This serves errors that appear only at COMMIT (a deferred constraint); a sink that can tell which row it refuses, or
that has savepoints, answers with ItemsFailed and never comes here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from batchwright.engine.process_chunk import Processed
from batchwright.model.failure import Phase
from batchwright.model.fault_points import reach
from batchwright.model.work import SetAside

if TYPE_CHECKING:
    from batchwright.engine.commit_chunk import OpenTarget

Commit = Callable[["OpenTarget", Processed], BaseException | None]


def commit_in_parts(
    target: "OpenTarget", processed: Processed, error: BaseException, commit: Commit
) -> BaseException | None:
    """Commit both halves of a refused chunk; a single refused item is set aside, or ends the step.

    Raises the error if the chunk cannot be divided, or has nothing that could be refused.
    """
    reach("K18")
    records = len(processed.chunk)
    if not processed.outputs():
        raise target.explained(error) from error
    if records == 1:
        if not target.attempts.skips(error):
            return error
        return commit(target, processed.without({0: SetAside(error, Phase.WRITE)}))
    middle = processed.chunk.cut_at(records // 2)
    if middle == 0:
        raise target.explained(error) from error
    ended_by = commit(target, processed.part(0, middle))
    if ended_by is not None:
        return ended_by
    return commit(target, processed.part(middle, records))
