"""Give a key to the next item that waits for it, once the one that had it was refused by the target.

The one rule: of the items with one key the first that can be processed and written is written; a refused one does not
take the others down with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batchwright.engine.attempt import Attempts, attempt_again
from batchwright.engine.deduplicate import Keyed
from batchwright.engine.process_chunk import Processed
from batchwright.model.drop import DROP
from batchwright.model.errors import StopRequestedError
from batchwright.model.failure import Phase
from batchwright.model.work import Attempted, SetAside

if TYPE_CHECKING:
    from batchwright.engine.commit_chunk import OpenTarget


def orphans_of(processed: Processed) -> Sequence[Keyed]:
    """The items of a processed chunk that wait for a key which nobody has any more."""
    if processed.keys is None:
        return ()
    start = processed.chunk.start
    orphans = processed.keys.orphans(start, start + len(processed.chunk))
    return [keyed for keyed in orphans if keyed[0] - start not in processed.failed]


def revive(target: "OpenTarget", processed: Processed, orphans: Sequence[Keyed]) -> Processed:
    """The chunk with these items processed after all: the first good one of each key. Outside any transaction.

    It is cut short before one whose error ends the step.
    """
    keys, start = processed.keys, processed.chunk.start
    if keys is None or not orphans:
        return processed
    results = dict(zip(processed.indexes(), processed.results, strict=True))
    left = {keyed[1] for keyed in orphans}
    owners: dict[Any, int] = {digest: ordinal for digest, ordinal in keys.owners.items() if digest not in left}
    aside: dict[int, SetAside] = {}
    ended: tuple[int, BaseException] | None = None
    retried = processed.retried
    for ordinal, digest, item in orphans:
        if digest in owners:
            continue
        index, tried = ordinal - start, _attempt(keys.pass_on, item, target.attempts)
        retried += tried.attempts - 1
        if tried.error is None:
            results[index], owners[digest] = tried.result, ordinal
        elif target.attempts.skips(tried.error):
            aside[index] = SetAside(tried.error, Phase.PROCESS, tried.attempts)
        else:
            ended = index, tried.error
            break
    done = replace(processed, results=list(results.values()), keys=keys.given_to(owners), retried=retried)
    done = done.without(aside) if aside else done
    return done if ended is None else done.before(*ended)


def outputs_of(processed: Processed, revived: Sequence[Keyed]) -> tuple[list[Any], list[int]]:
    """The outputs of items that were revived, and for each the index of its item in the chunk."""
    wanted = {keyed[0] - processed.chunk.start for keyed in revived}
    pairs = [
        (output, index)
        for index, result in zip(processed.indexes(), processed.results, strict=True)
        if index in wanted
        for output in (result if processed.many else (result,))
        if output is not DROP
    ]
    return [output for output, _ in pairs], [index for _, index in pairs]


def _attempt(call: Callable[[Any], Any], item: Any, policy: Attempts) -> Attempted:
    try:
        return Attempted(call(item), None, 1)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's SystemExit is an item's failure too
        try:
            return attempt_again(call, item, error, policy)
        except StopRequestedError as stopping:
            return Attempted(None, stopping, 1)
