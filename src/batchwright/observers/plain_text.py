"""Values as plain text for people: counts, sizes, durations, and texts that come from data.

The one rule: whatever comes from data stays on its line and cannot command a terminal.
"""

from batchwright.model.checkpoint import Counts
from batchwright.model.result import JobResult
from batchwright.model.status import Status


def summary_lines(result: JobResult, pace: tuple[int, float] | None = None) -> list[str]:
    """How a run ended, in about six lines: what it has done itself, and, where earlier runs did more, what there is.

    `pace`, items and seconds, goes before what the result says of its rate.
    """
    if result.already_complete:
        return [f"{printable(result.job)}: already complete (run {result.run}), nothing to do", *_warnings(result)]
    if not result.run:
        return [f"{printable(result.job)}: stopped before it began", f"  {printable(result.error)}"]
    counts = result.counts_now
    rate = items_per_second(*(pace or (result.read_now, sum(step.seconds for step in result.steps))))
    lines = [
        f"{printable(result.job)}: {status_words(result.status)} (run {result.run}) in {duration(result.seconds)}",
        f"  {balance(counts)}",
        f"  outputs {counts.outputs:,}, retried {counts.retried:,}, rolled back {counts.rollbacks:,} chunks",
        f"  {rate}, peak memory {size(result.peak_memory_bytes)}",
    ]
    if result.counts != counts:
        lines.append(f"  in all, with what was done before: {balance(result.counts)}")
    lines += [f"  {printable(step.name)}: {step.unpublished}" for step in result.steps if step.unpublished]
    if result.status is Status.STOPPED and result.error:
        lines.insert(1, f"  {printable(result.error)}")
    if result.failure_file:
        lines.append(f"  failures: {printable(result.failure_file)}")
    return [*lines, *_warnings(result)]


def _warnings(result: JobResult) -> list[str]:
    return [f"  warning: {printable(warning)}" for warning in result.warnings]


def balance(counts: Counts) -> str:
    """The four counts as the equation that they are."""
    sign = "=" if counts.balanced else "≠"
    return (
        f"read {counts.read:,} {sign} written {counts.written:,} + filtered {counts.filtered:,}"
        f" + failed {counts.failed:,}"
    )


def status_words(status: Status) -> str:
    """A status as it reads in a sentence: `completed with failures`."""
    return status.value.lower().replace("_", " ")


def items_per_second(items: int, seconds: float) -> str:
    """A rate; a dash where there is nothing to divide."""
    return f"{items / seconds:,.0f} items/s" if items and seconds > 0 else "- items/s"


def duration(seconds: float) -> str:
    """`0.42 s`, `8.3 s`, `4:07`, `1:02:03`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(number_of_bytes: int) -> str:
    """A size in MB, as memory is spoken of; a dash where it is not known."""
    if not number_of_bytes:
        return "-"
    megabytes = number_of_bytes / 1_000_000
    return f"{megabytes:,.1f} MB" if megabytes < 10 else f"{megabytes:,.0f} MB"  # noqa: PLR2004 - one digit is enough


def printable(text: object) -> str:
    r"""The text with everything escaped that does not print: `\x1b`, `\n`, `\u202e`."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in plain)


def _escaped(sign: str) -> str:
    return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(sign) or sign.encode("unicode_escape").decode("ascii")
