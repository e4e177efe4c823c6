"""What failed in a chunk that passed the limit of failures is told by each command, though it is not committed."""

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22", "--max-failures", "1")

CAUSE = "not committed: 1 item with ValueError: =row 17 [red] is wrong (in process; first "
ITEM = "item 18: {'id': 17, 'mood': 'MILD'})"


def words(text: str) -> str:
    return " ".join(text.replace("\\x1b[31m", "").split())


def test_the_error_the_summary_show_and_failures_say_what_passed_the_limit(shop):
    ended = shop.call(*SALES)
    assert ended.code == 1
    shown = [ended.err, shop.call("show", "1").out, shop.call("failures", "1").out]
    for text in shown:
        assert CAUSE in words(text)
        assert ITEM in words(text)
    listed = shop.call("failures", "1")
    assert "step load was stopped by: step 'load': more items failed than the limit allows; 2 of 18" in words(
        listed.out
    )
    assert "next: batchwright resume 1" in listed.err
    found = shop.call("failures", "1", "--json").document
    assert [cause["count"] for cause in found["causes"]] == [1], "the one that is committed"
    assert [stopped["step"] for stopped in found["stopped_by"]] == ["load"]
    (step,) = shop.call("show", "1", "--json").document["steps"]
    assert (step["counts"]["read"], step["counts"]["written"], step["counts"]["failed"]) == (15, 14, 1)


def test_failures_of_a_run_that_failed_do_not_say_that_nothing_did(shop):
    assert shop.call(*SALES[:-1], "0").code == 1
    listed = shop.call("failures", "1")
    assert listed.out.splitlines()[0] == "run 1 of sales: no failures are kept"
    assert "=row 7 [red]" in words(listed.out)
    assert shop.call("failures", "1", "--step", "load").out.startswith(
        "run 1 of sales: no such failures\nstep load was"
    )
