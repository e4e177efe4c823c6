"""status, show, failures, replay, explain and doctor, over real ledgers."""

import csv
import io
import json
import sqlite3
import sys
from contextlib import closing

import pytest

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22")


@pytest.fixture
def after_a_run(shop):
    shop.call(*SALES)
    return shop


def test_status_lists_runs_newest_first_with_their_counts(after_a_run):
    after_a_run.call("run", "jobs.py:again", "--limit", "1")
    ended = after_a_run.call("status")
    assert ended.code == 0
    head, *runs = ended.out.splitlines()
    assert head.split()[:4] == ["run", "job", "parameters", "status"]
    assert [line.split()[:2] for line in runs] == [["2", "again"], ["1", "sales"]]
    assert runs[1].split()[2:4] == ["day=2026-11-22", "COMPLETED_WITH_FAILURES"]
    assert runs[1].split()[-4:] == ["20", "18", "0", "2"]
    assert ended.err == "run 2 of again: stopped; go on with: batchwright resume 2\n"


def test_status_can_be_narrowed_and_read_by_programs(after_a_run):
    after_a_run.call("run", "jobs.py:again")
    found = after_a_run.call("status", "--json", "--job", "sales").document
    (run,) = found["runs"]
    assert (run["run"], run["job"], run["status"]) == (1, "sales", "COMPLETED_WITH_FAILURES")
    assert run["parameters"] == {"day": "2026-11-22"}
    assert run["counts"]["failed"] == 2
    assert len(after_a_run.call("status", "--json", "--limit", "1").document["runs"]) == 1


def test_a_killed_run_is_lost_and_says_how_to_go_on(shop):
    assert shop.spawn("run", "jobs.py:killed").code == -9
    ended = shop.call("status")
    assert "LOST" in ended.out
    assert ended.err == "run 1 of killed: its process is gone; go on with: batchwright resume 1\n"
    warned, following = shop.call("show", "1").err.splitlines()
    assert "those of its last report" in warned
    assert following == "next: batchwright resume 1"
    shop.mend()
    assert shop.call("run", "jobs.py:killed").code == 0
    assert shop.call("status").err == ""


def test_show_tells_everything_about_a_run(after_a_run):
    ended = after_a_run.call("show", "1")
    assert ended.code == 0
    facts = " ".join(ended.out.split())
    for fact in (
        "job sales status COMPLETED_WITH_FAILURES lap 1",
        f"origin {after_a_run.folder}/jobs.py:sales",
        "parameters day 2026-11-22",
        "step load: COMPLETED_WITH_FAILURES counts read 20 = written 18 + filtered 0 + failed 2",
        "s in run 1 waited for reading ",
        "sales (exactly once)",
        "failures by cause",
    ):
        assert fact in facts
    assert ended.err.splitlines() == ["next: batchwright failures 1", "next: batchwright replay 1"]
    assert after_a_run.call("show").out == ended.out, "the latest run is the default"


def test_show_as_json_names_causes_and_next_commands(after_a_run):
    found = after_a_run.call("show", "--json").document
    assert found["next"] == ["batchwright failures 1", "batchwright replay 1"]
    assert [(cause["count"], cause["error_type"]) for cause in found["causes"]] == [(2, "ValueError")]


@pytest.fixture
def after_a_replay(after_a_run):
    after_a_run.mend()
    after_a_run.call("replay", "1")
    return after_a_run


def test_a_replay_does_not_take_the_place_of_the_run_it_belongs_to(after_a_replay):
    shown = after_a_replay.call("show")
    assert shown.out.startswith("run      1\n")
    assert "failed 2 (2 replayed, 0 open)" in shown.out
    assert after_a_replay.call("failures", "--json").document["run"] == 1
    assert "kind     replay of run 1\n" in after_a_replay.call("show", "2").out


def test_status_marks_a_replay_with_the_run_it_belongs_to(after_a_replay):
    _, replay, run = after_a_replay.call("status").out.splitlines()
    assert replay.startswith("  2  sales (replay of run 1)  ")
    assert run.startswith("  1  sales  ")
    found = after_a_replay.call("status", "--json").document["runs"]
    assert [(entry["kind"], entry["replay_of"]) for entry in found] == [("replay", 1), ("run", None)]


def test_a_replay_is_taken_for_that_of_its_own_work(after_a_replay):
    after_a_replay.call("run", "jobs.py:sales", "--day", "2026-11-23")
    runs = after_a_replay.call("status", "--json").document["runs"]
    assert [entry["replay_of"] for entry in runs] == [None, 1, None]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("status", "--job", "slaes"), "there is no run of a job 'slaes'"),
        (("status", "--job", "slaes", "--json"), "its jobs are sales; did you mean 'sales'?"),
        (("failures", "1", "--step", "laod"), "no step 'laod'; its steps are load; did you mean 'load'?"),
        (("failures", "--step", "zzz", "--format", "csv"), "its steps are load"),
        (("replay", "1", "--step", "laod"), "did you mean 'load'?"),
        (("show", "abc"), "'abc' is not a whole number"),
        (("status", "--limit", "abc"), "'abc' is not a whole number"),
    ],
)
def test_a_name_that_is_not_there_is_wrong_use_and_names_those_that_are(after_a_run, command, told):
    ended = after_a_run.call(*command)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert told in line
    if "--json" in command:
        assert json.loads(ended.out) == {"schema_version": 1, "exit_code": 2, "error": line.removeprefix("error: ")}
    else:
        assert ended.out == ""


def test_failures_are_grouped_by_cause_first(after_a_run):
    ended = after_a_run.call("failures", "1")
    assert ended.code == 0
    head, group = ended.out.splitlines()
    assert head.split()[:3] == ["count", "open", "step"]
    assert group.split()[:5] == ["2", "2", "load", "process", "ValueError"]
    assert r"=row 7 [red]\x1b[31m is wrong" in group
    assert ended.err.splitlines() == ["next: batchwright failures 1 --all", "next: batchwright replay 1"]


def test_failures_row_by_row_in_each_form(after_a_run):
    table = after_a_run.call("failures", "--all").out.splitlines()
    assert [line.split()[0] for line in table] == ["item", "8", "18"]
    assert table[1].endswith('  open   {"id": 7, "mood": "MILD"}')
    lines = after_a_run.call("failures", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["ordinal"] for line in lines] == [7, 17]
    assert json.loads(lines[0])["value"] == {"id": 7, "mood": "MILD"}
    assert json.loads(lines[0])["error"] == "=row 7 [red]\x1b[31m is wrong"
    document = after_a_run.call("failures", "--format", "json").document
    assert [failure["ordinal"] for failure in document["failures"]] == [7, 17]
    assert after_a_run.call("failures", "--all", "--json").document == document
    text = after_a_run.call("failures", "--format", "csv").out
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["ordinal"], second["ordinal"]) == ("7", "17")
    assert first["error"].startswith("'=row 7"), "a spreadsheet must not run it"
    assert json.loads(first["payload"])["value"]["id"] == json.loads(first["value"])["id"] == 7


def test_failures_can_be_narrowed(after_a_run):
    assert after_a_run.call("failures", "--step", "load", "--json").document["causes"][0]["count"] == 2
    after_a_run.mend()
    after_a_run.call("replay", "1")
    assert after_a_run.call("failures", "1", "--open").out == "run 1 of sales: no such failures\n"
    assert after_a_run.call("failures", "1", "--open", "--format", "jsonl").out == ""


def test_no_failures_is_still_a_document_in_each_form(shop):
    shop.call("run", "jobs.py:again")
    assert shop.call("failures").out == "run 1 of again: nothing failed\n"
    assert shop.call("failures", "--format", "json").document["failures"] == []
    assert shop.call("failures", "--format", "csv").out.startswith("run,step,ordinal,")
    assert shop.call("failures", "--format", "jsonl").out == ""


def test_replay_before_the_cause_is_mended_leaves_the_failures_open(after_a_run):
    ended = after_a_run.call("replay", "1")
    assert ended.code == 3
    assert ended.err.splitlines()[-4:] == [
        "load: 0 replayed, 2 still open",
        r"  item 8 (list item 8): ValueError: =row 7 [red]\x1b[31m is wrong",
        r"  item 18 (list item 18): ValueError: =row 17 [red]\x1b[31m is wrong",
        "next: batchwright failures 1 --open",
    ]


def test_replay_after_the_cause_is_mended_closes_them(after_a_run):
    after_a_run.mend()
    found = after_a_run.call("replay", "1", "--json").document
    assert (found["replayed"], found["still_open"], found["exit_code"]) == (2, 0, 0)
    ended = after_a_run.call("replay", "1")
    assert ended.code == 0
    assert "nothing to replay in run 1" in ended.err.splitlines()
    assert after_a_run.call("show", "1").err == ""


def test_replay_builds_the_job_with_the_enum_members_it_had(shop):
    shop.call(*SALES, "--mood", "MILD")
    shop.mend()
    ended = shop.call("replay", "1")
    assert (ended.code, "2 replayed" in ended.err) == (0, True)


def test_replay_builds_the_job_with_the_decimals_and_ids_it_had(shop):
    known = "3f2a9b1c-0000-4000-8000-00000000ab12"
    assert shop.call("run", "jobs.py:priced", "--rate", "1.50", "--key", known).code == 3
    shop.mend()
    assert shop.call("replay", "1").code == 0
    with closing(sqlite3.connect(shop.folder / "shop.db")) as database:
        assert database.execute("SELECT * FROM priced").fetchall() == [(0, "1.50", known)]
    assert shop.call("status", "--json").document["runs"][1]["parameters"] == {"rate": "1.50", "key": known}


def test_items_of_a_function_are_placed_by_its_name_alone(shop):
    shop.call("run", "jobs.py:generated")
    assert "  made item 3  " in shop.call("failures", "--all").out
    assert "  made item 3" in shop.call("show").out
    row = shop.call("failures", "--all").out.splitlines()[1]
    assert "ValueError: no 2 " in row
    assert "…" in row
    assert len(json.loads(shop.call("failures", "--format", "jsonl").out)["error"]) > 200


def test_explain_says_what_a_job_does_and_touches_nothing(shop):
    ended = shop.call("explain", "jobs.py:sales", "--day", "2026-11-22", "--n", "5")
    assert ended.code == 0
    facts = " ".join(ended.out.split())
    for fact in (
        "job sales step load reads list (a restart goes straight to its place)",
        "guarantee exactly once",
        "may happen twice no output; process is called again for the up to 5 items",
        "load: there is no limit on failures",
        'mend: add one: skip=Skip(on=ValueError, limit="1%")',
    ):
        assert fact in facts
    assert [line[:5] for line in ended.out.splitlines()].count("note:") == 1
    assert ended.err.splitlines()[-1] == "next: batchwright run jobs.py:sales --day 2026-11-22 --n 5"
    assert sorted(path.name for path in shop.folder.iterdir() if path.name != "__pycache__") == ["jobs.py"]


def test_explain_as_json(shop):
    found = shop.call("explain", "jobs.py:again", "--json").document
    (step,) = found["steps"]
    assert (step["name"], step["guarantee"], step["seeks"]) == ("add", "exactly once", True)
    assert [warning["step"] for warning in found["warnings"]] == ["add", "add"]


def test_doctor_before_the_first_run_and_after(shop):
    ended = shop.call("doctor")
    assert ended.code == 0
    assert "ledger exists" in ended.out
    assert "extra dev" not in ended.out
    shop.call("run", "jobs.py:again")
    found = shop.call("doctor", "--json").document
    assert found["healthy"] is True
    assert found["problems"] == []
    assert found["facts"]["ledger exists"] is True
    assert found["facts"]["ledger integrity"] == "ok"
    assert found["facts"]["ledger executions"] == 1


def test_doctor_finds_a_ledger_that_is_none(shop):
    (shop.folder / "ledger.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    ended = shop.call("doctor", "--ledger", "ledger.db")
    assert ended.code == 1
    assert ended.err.startswith("error: ledger opens: ")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("command", [("status",), ("show",), ("failures",), ("replay", "1")])
def test_without_a_ledger_there_is_nothing_to_read(shop, command):
    ended = shop.call(*command)
    assert ended.code == 2
    assert ended.err.startswith("error: there is no ledger")
    assert len(ended.err.splitlines()) == 1
    assert not (shop.folder / ".batchwright").exists()


@pytest.mark.parametrize("command", ["show", "failures", "replay"])
def test_a_run_that_is_not_there(after_a_run, command):
    ended = after_a_run.call(command, "99")
    assert ended.code == 2
    assert "there is no run 99" in ended.err
    assert "its latest run is 1" in ended.err


def test_the_program_shows_its_commands_and_its_version(shop):
    for arguments in ((), ("-h",), ("--help",)):
        ended = shop.call(*arguments)
        assert ended.code == 0
        assert "explain   Say what a job will do" in ended.out
    assert shop.call("--version").out.startswith("batchwright 0.")
    assert shop.call("statsu").err == (
        "error: there is no command 'statsu'; did you mean 'status'? see batchwright --help\n"
    )


FILE_JOB = """
from batchwright import Job, Step
from batchwright.readers import csv_rows
from batchwright.writers import insert, text_file

def load() -> Job:
    rows = Step("rows", read=csv_rows("in.csv"), write=insert("sqlite:///out.db", "t"), chunk_size=2)
    lines = Step("lines", read=csv_rows("in.csv"), process=str, write=text_file("out.txt"), chunk_size=2, after=())
    return Job("load", rows, lines, Step("last", read=[1], write=print))
"""


@pytest.fixture
def interrupted(shop):
    (shop.folder / "in.csv").write_text("a\n" + "".join(f"{number}\n" for number in range(9)))
    (shop.folder / "load.py").write_text(FILE_JOB)
    try:
        shop.call("run", "load.py:load", "--limit", "4")
        yield shop
    finally:
        sys.modules.pop("load", None)


def test_an_interrupted_run_says_where_it_stands_and_what_can_be_done(interrupted):
    shown = " ".join(interrupted.call("show", "1").out.split())
    assert "rows 4 items are committed; goes on at item 5 (in.csv line 6)" in shown
    assert "last not begun" in shown
    assert "go on batchwright resume 1" in shown
    assert "begin anew batchwright run load.py:load --again" in shown
    assert "give up batchwright abandon 1" in shown
    found = interrupted.call("show", "--json").document
    assert [step["goes_on_at"] for step in found["standing"]] == ["item 5 (in.csv line 6)", None, None]
    assert found["choices"]["go on"] == "batchwright resume 1"


def test_without_its_file_it_says_as_much_as_the_ledger_knows(interrupted):
    (interrupted.folder / "load.py").unlink()
    sys.modules.pop("load", None)
    assert "goes on at item 5" in interrupted.call("show", "1").out


def test_looking_at_an_interrupted_run_changes_nothing(interrupted):
    before = {path.name: path.read_bytes() for path in interrupted.folder.iterdir() if path.is_file()}
    interrupted.call("show", "1")
    assert {path.name: path.read_bytes() for path in interrupted.folder.iterdir() if path.is_file()} == before


def test_a_run_that_was_gone_on_with_names_the_later_one(interrupted):
    interrupted.call("run", "load.py:load", "--limit", "1")
    shown = interrupted.call("show", "1").out
    assert "since then\n  run  2 of the same work: STOPPED\n" in shown
    assert "what can be done" not in shown
