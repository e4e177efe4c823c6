"""Values as plain text."""

import pytest

from batchwright.model.checkpoint import Counts
from batchwright.model.result import Failures, JobResult, StepResult
from batchwright.model.status import Status
from batchwright.observers.plain_text import balance, duration, items_per_second, printable, size, summary_lines


def result(**changes) -> JobResult:
    counts = Counts(read=1_000, written=990, filtered=5, failed_process=5, outputs=990, retried=2, rollbacks=1)
    steps = (StepResult("load", Status.COMPLETED_WITH_FAILURES, counts, 2.0, 84_000_000),)
    settings = {"failures": Failures(lambda: iter(()), 5), "seconds": 2.5, **changes}
    return JobResult("sales", 12, 1, Status.COMPLETED_WITH_FAILURES, steps, **settings)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("two\nlines\r\tand a tab", r"two\nlines\r\tand a tab"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x9b2J", r"\x9b2J"),
        ("\ud800", r"\ud800"),
        ("[/bold]", "[/bold]"),
    ],
)
def test_what_does_not_print_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0.00 s"), (0.42, "0.42 s"), (8.34, "8.3 s"), (247, "4:07"), (59.99, "60.0 s"), (3_723, "1:02:03")],
)
def test_a_duration_is_as_long_as_it_needs_to_be(seconds, shown):
    assert duration(seconds) == shown


def test_sizes_and_rates_without_anything_to_say_are_dashes():
    assert size(0) == "-"
    assert items_per_second(0, 1.0) == "- items/s"
    assert items_per_second(10, 0.0) == "- items/s"
    assert (size(8_400_000), size(84_000_000)) == ("8.4 MB", "84 MB")


def test_counts_that_do_not_add_up_are_no_equation():
    assert balance(Counts(read=3, written=3)) == "read 3 = written 3 + filtered 0 + failed 0"
    assert balance(Counts(read=3, written=2)) == "read 3 ≠ written 2 + filtered 0 + failed 0"


def test_the_summary_has_status_counts_rate_memory_and_the_failure_file():
    assert summary_lines(result(failure_file="/data/failures-12.jsonl", warnings=("newer rows",))) == [
        "sales: completed with failures (run 12) in 2.5 s",
        "  read 1,000 = written 990 + filtered 5 + failed 5",
        "  outputs 990, retried 2, rolled back 1 chunks",
        "  500 items/s, peak memory 84 MB",
        "  failures: /data/failures-12.jsonl",
        "  warning: newer rows",
    ]


def test_a_job_that_was_complete_says_so_in_one_line():
    assert summary_lines(result(already_complete=True)) == ["sales: already complete (run 12), nothing to do"]
