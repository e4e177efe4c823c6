"""`batchwright list`: one line for each piece of work, with what to do next."""

import pytest


@pytest.fixture
def busy(shop):
    """Work that ended in three ways, one of it begun twice."""
    shop.call("run", "jobs.py:sales", "--day", "2026-11-22")
    shop.call("run", "jobs.py:again", "--limit", "1")
    shop.call("run", "jobs.py:again", "--limit", "2")
    shop.call("run", "jobs.py:fetch", "--token", "t0ps3cret")
    return shop


def test_list_has_one_line_for_each_work_newest_first_with_what_to_do_next(busy):
    ended = busy.call("list")
    assert ended.code == 0
    head, *rows, _ = [*ended.out.splitlines(), ""]
    assert head.split() == ["run", "job", "parameters", "status", "last", "run", "(UTC)", "open", "next"]
    assert [line.split()[:2] for line in rows] == [["4", "fetch"], ["3", "again"], ["1", "sales"]]
    assert rows[0].split()[-1] == "0"
    assert rows[1].split()[-3:] == ["0", "resume", "3"]
    assert rows[2].split()[-3:] == ["2", "failures", "1"]
    assert "t0ps3cret" not in ended.out + ended.err


def test_list_can_be_narrowed_and_read_by_programs(busy):
    found = busy.call("list", "--json", "--status", "stopped", "--status", "FAILED").document
    (work,) = found["jobs"]
    assert (work["job"], work["run"], work["executions"], work["status"]) == ("again", 3, 2, "STOPPED")
    assert work["next"] == ["batchwright resume 3"]
    assert [each["run"] for each in busy.call("list", "--json", "--job", "sales").document["jobs"]] == [1]
    assert busy.call("list", "--job", "sales", "--status", "FAILED").out.startswith("no such work in ")


def test_a_list_that_is_cut_says_so(busy):
    assert busy.call("list", "--limit", "1", "--json").document["more"] is True
    assert "there is more: --limit 4" in busy.call("list", "--limit", "2").err
    assert "there is more" not in busy.call("list", "--limit", "3").err


def test_a_job_or_status_that_is_not_there_is_wrong_use(busy):
    assert "did you mean 'sales'?" in busy.call("list", "--job", "slaes").err
    assert busy.call("list", "--status", "DONE").code == 2


def test_more_work_than_a_page_is_listed_whole(shop):
    for number in range(1, 4):
        shop.call("run", "jobs.py:again", "--n", str(number), "-q")
    from batchwright.cli import histories

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "PAGE", 2)
        assert [each["run"] for each in shop.call("list", "--json").document["jobs"]] == [3, 2, 1]


def test_a_ledger_found_in_a_folder_above_is_named(shop, monkeypatch):
    shop.call("run", "jobs.py:again", "-q")
    assert "ledger " not in shop.call("list").err
    below = shop.folder / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    ended = shop.call("list")
    assert (ended.code, ended.err.splitlines()[0]) == (0, f"ledger {shop.folder}/.batchwright/ledger.db")
    assert "ledger " not in shop.call("list", "--ledger", f"{shop.folder}/.batchwright/ledger.db").err
