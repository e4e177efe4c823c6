"""What a writer promises about a chunk, and what its sink says of an error."""

from enum import StrEnum


class Guarantee(StrEnum):
    """How often the outputs of a chunk take effect, whatever crashes in between."""

    EXACTLY_ONCE = "exactly once"
    EFFECTIVELY_ONCE = "effectively once (idempotent)"
    AT_LEAST_ONCE = "at least once"


class Fault(StrEnum):
    """What an error from a sink means for the chunk.

    TRANSIENT: roll back and write the same chunk again. REFUSED: the data is refused, set the guilty items aside.
    DOUBTFUL: a commit failed and may have taken effect; ask the target. FATAL: stop the step.
    """

    TRANSIENT = "transient"
    REFUSED = "refused"
    DOUBTFUL = "doubtful"
    FATAL = "fatal"
