"""Hold a step to its limit of failures, and say what failed in the chunk that passed it.

The one rule: that chunk is not committed, so nothing of it is counted or kept as a failure: the next run reads it
again. What failed in it is in the error, grouped by cause, or nobody would ever know.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchwright.engine.process_chunk import Processed
from batchwright.engine.record_failure import error_text
from batchwright.model.cause import general_message
from batchwright.model.checkpoint import Counts
from batchwright.model.codec import decode
from batchwright.model.errors import FailureLimitError
from batchwright.model.failure import Failure, PayloadKind

if TYPE_CHECKING:
    from batchwright.engine.commit_chunk import OpenTarget

CAUSES_TOLD = 5

_TEXT_CHARACTERS = 200
_PAYLOAD_CHARACTERS = 100


def passes_limit(target: "OpenTarget", failed: int) -> bool:
    """Whether so many failures that are not committed yet, together with those that are, pass a limit by count."""
    most = target.limit.most if target.limit else None
    return most is not None and target.checkpoint.counts.failed + failed > most


def require_within(target: "OpenTarget", processed: Processed, beside: Counts | None = None) -> None:
    """Raise FailureLimitError if a chunk passes the limit; `beside` are the counts of the step's other partitions."""
    limit = target.limit
    if limit is None:
        return
    done = target.checkpoint.counts if beside is None else target.checkpoint.counts + beside
    # Where the chunk was broken off it is what was looked at that counts.
    failed = done.failed + len(processed.failed)
    read = done.read + len(processed.results) + len(processed.failed)
    if not processed.over_limit and not limit.exceeded(failed, read):
        return
    last = processed.failed[max(processed.failed)].error if processed.failed else None
    raise FailureLimitError(target.step, failed, read, limit.limit, causes_of(target, processed)) from last


@dataclass(slots=True)
class _Cause:
    first: int
    count: int = 0


def causes_of(target: "OpenTarget", processed: Processed) -> Sequence[str]:
    """What failed in a chunk in words: the most frequent causes, each with the first item that failed for it."""
    causes: dict[tuple[str, str, str], _Cause] = {}
    for index in sorted(processed.failed):
        why = processed.failed[index]
        message = general_message(error_text(why.error, target.recorder.secrets))
        causes.setdefault((why.phase, type(why.error).__qualname__, message), _Cause(index)).count += 1
    frequent = sorted(causes.values(), key=lambda cause: -cause.count)
    told = [
        _words(cause.count, target.recorder.record(processed.chunk, cause.first, processed.failed[cause.first]))
        for cause in frequent[:CAUSES_TOLD]
    ]
    others = sum(cause.count for cause in frequent[CAUSES_TOLD:])
    return [*told, f"{others:,} for other causes"] if others else told


def _words(count: int, first: Failure) -> str:
    error = f"{first.error_type}: {_cut(first.error, _TEXT_CHARACTERS)}".removesuffix(": ")
    raw = f": {_cut(_shown(first), _PAYLOAD_CHARACTERS)}" if first.payload else ""
    items = "1 item" if count == 1 else f"{count:,} items"
    return f"{items} with {error} (in {first.phase}; first {first.place}{raw})"


def _shown(failure: Failure) -> str:
    """The item as a person would write it, without what the codec adds."""
    text = failure.payload or ""
    return str(decode(text)) if failure.payload_kind is PayloadKind.JSON else text


def _cut(text: str, characters: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"
