"""`batchwright run`: parameters, exit codes, what is said and what is printed."""

import sqlite3
from contextlib import closing

import pytest

from batchwright.job import Job
from batchwright.ledgers.sqlite import SqliteLedger
from batchwright.model.execution import RunRequest
from batchwright.model.status import Status
from batchwright.origins import load_function

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22")


def rows(shop, table: str) -> list[tuple]:
    connection = sqlite3.connect(shop.folder / "shop.db")
    try:
        return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
    finally:
        connection.close()


def test_a_run_says_where_its_ledger_is_what_is_promised_how_it_ended_and_what_is_next(shop):
    ended = shop.call(*SALES)
    assert ended.code == 3
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert lines[:3] == [
        "building",
        f"sales starts: run 1, ledger {shop.folder}/.batchwright/ledger.db",
        "  load: exactly once",
    ]
    assert "  read 20 = written 18 + filtered 0 + failed 2" in lines
    assert lines[-2:] == ["next: batchwright failures 1", "next: batchwright replay 1"]


def test_json_is_one_object_on_standard_output_whatever_the_job_prints(shop):
    ended = shop.call(*SALES, "--json", "--no-progress")
    assert ended.code == 3
    found = ended.document
    assert {
        name: found[name] for name in ("schema_version", "run", "job", "lap", "status", "failures", "exit_code")
    } == {
        "schema_version": 1,
        "run": 1,
        "job": "sales",
        "lap": 1,
        "status": "COMPLETED_WITH_FAILURES",
        "failures": 2,
        "exit_code": 3,
    }
    assert found["ledger"] == f"{shop.folder}/.batchwright/ledger.db"
    assert found["failure_file"] == f"{shop.folder}/.batchwright/failures-1.jsonl"
    assert found["error"] is None
    (step,) = found["steps"]
    assert (step["name"], step["counts"]["read"], step["counts"]["written"]) == ("load", 20, 18)
    assert step["seconds"] >= 0
    assert found["peak_memory_bytes"] > 0


def test_failures_can_be_tolerated(shop):
    assert shop.call(*SALES, "--tolerate-failures").code == 0


def test_a_finished_job_is_not_run_again_and_that_is_no_error(shop):
    shop.call("run", "jobs.py:priced", "--rate", "1", "--key", "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    shop.mend()
    shop.call("replay", "1")
    ended = shop.call("run", "jobs.py:priced", "--rate", "1", "--key", "6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    assert ended.code == 0
    assert ended.err.splitlines()[-1] == "priced: already complete (run 1), nothing to do"


def test_finished_work_with_open_failures_says_so_each_time_until_they_are_closed(shop):
    assert shop.call(*SALES).code == 3
    ended = shop.call(*SALES)
    assert (ended.code, ended.err.splitlines()[-2:]) == (
        3,
        ["next: batchwright failures 1", "next: batchwright replay 1"],
    )
    assert "sales: already complete (run 1), nothing to do" in ended.err
    assert shop.call(*SALES, "--tolerate-failures").code == 0
    shop.call("replay", "1", "--ignore", "test data")
    ended = shop.call(*SALES)
    assert (ended.code, "next: " in ended.err) == (0, False)


def test_quiet_says_nothing_when_all_is_well(shop):
    ended = shop.call("run", "jobs.py:again", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_no_progress_keeps_the_start_and_the_end(shop):
    ended = shop.call("run", "jobs.py:again", "--no-progress")
    assert ended.err.startswith("again starts: run 1, ledger ")
    assert "again: completed (run 1)" in ended.err


def test_a_failing_step_is_exit_code_1_with_one_line_and_no_traceback(shop):
    ended = shop.call(*SALES, "--mood", "STRICT")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    error, following = ended.err.splitlines()[-2:]
    assert error.startswith(r"error: step 'load' of job 'sales' failed; ValueError: =row 7 [red]\x1b[31m is wrong")
    assert following == "next: batchwright resume 1"
    assert error.endswith("; mend it and run it again: run 1 goes on")
    assert len(rows(shop, "sales")) == 7
    shop.mend()
    ended = shop.call(*SALES, "--mood", "s")
    assert ended.code == 0
    assert "sales goes on: run 2" in ended.err
    assert len(rows(shop, "sales")) == 20


def test_debug_shows_the_users_error(shop):
    ended = shop.call(*SALES, "--mood", "STRICT", "--debug")
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "in check" in ended.err
    assert ended.err.count("step 'load' of job 'sales' failed") == 1
    assert ended.err.count("next: ") == 1
    assert "\x1b[31m" not in ended.err


def test_a_failed_run_is_one_object_too(shop):
    found = shop.call(*SALES, "--mood", "STRICT", "--json").document
    assert (found["status"], found["exit_code"]) == ("FAILED", 1)
    assert "is wrong" in found["error"]


def test_a_limit_stops_the_run_and_the_next_one_goes_on(shop):
    ended = shop.call("run", "jobs.py:again", "--n", "10", "--limit", "4")
    assert ended.code == 5
    assert ended.err.splitlines()[-1] == "next: batchwright resume 1"
    assert len(rows(shop, "log")) == 4
    assert shop.call("run", "jobs.py:again", "--n", "10").code == 0
    assert len(rows(shop, "log")) == 10


def test_more_failures_than_the_limit_given_fail_the_run(shop):
    ended = shop.call(*SALES, "--max-failures", "1")
    assert ended.code == 1
    assert "more items failed than the limit allows" in ended.err
    assert "the limit is 1" in ended.err
    assert ended.err.count("step 'load'") == 1, "a step that failed is named once"
    assert "with --max-failures; then run it again" in ended.err


def test_a_second_time_through_an_insert_needs_a_yes(shop):
    shop.call("run", "jobs.py:again")
    ended = shop.call("run", "jobs.py:again", "--again")
    assert ended.code == 2
    assert ended.err.count("error: ") == 1
    assert shop.call("run", "jobs.py:again", "--again", "--yes").code == 0
    assert len(rows(shop, "log")) == 8


def test_work_that_another_process_is_at_is_not_started(shop):
    shop.call("run", "jobs.py:again", "--n", "9", "--limit", "2")
    job = Job.of(load_function("jobs.py:again"), n=9)
    with closing(SqliteLedger(shop.folder / ".batchwright" / "ledger.db")) as ledger, ledger.own(job.key):
        ended = shop.spawn("run", "jobs.py:again", "--n", "9", "--json")
    assert ended.code == 4
    assert ended.err.startswith("error: job 'again' is already running with these parameters; ")
    assert (ended.document["exit_code"], ended.document["status"]) == (4, None)
    assert "next: " not in ended.err, "nothing in the ledger says which run it would be"
    assert len(rows(shop, "log")) == 2


def test_who_is_in_the_way_is_named_with_the_command_that_stops_it(shop):
    shop.call("run", "jobs.py:again", "--n", "9", "--limit", "2")
    job = Job.of(load_function("jobs.py:again"), n=9)
    with closing(SqliteLedger(shop.folder / ".batchwright" / "ledger.db")) as ledger, ledger.own(job.key):
        ledger.move_run(ledger.begin_run(RunRequest(job.key, {"n": 9}, ("add",), job.origin)).id, Status.RUNNING)
        ended = shop.spawn("run", "jobs.py:again", "--n", "9")
        assert (ended.code, ended.err.splitlines()[-1]) == (4, "next: batchwright stop 2")
        assert shop.call("stop", "2").code == 0


def test_the_ledger_can_be_named(shop):
    ended = shop.call("run", "jobs.py:again", "--ledger", "elsewhere.db", "--limit", "1")
    assert ended.err.splitlines()[-1] == "next: batchwright resume 1 --ledger elsewhere.db"
    assert (shop.folder / "elsewhere.db").exists()
    assert not (shop.folder / ".batchwright").exists()


def test_commands_of_another_folder_name_the_ledger(shop, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    ended = shop.call("run", f"{shop.folder}/jobs.py:sales", "--day", "2026-11-22")
    ledger = f"{shop.folder}/.batchwright/ledger.db"
    assert ended.err.splitlines()[-2] == f"next: batchwright failures 1 --ledger {ledger}"
    assert shop.call("failures", "1", "--ledger", ledger).code == 0


def test_a_secret_comes_from_the_environment_and_is_never_shown(shop, monkeypatch):
    monkeypatch.setenv("BATCHWRIGHT_TOKEN", "hunter2")
    for arguments in (("run", "jobs.py:fetch"), ("run", "jobs.py:fetch", "--debug"), ("explain", "jobs.py:fetch")):
        ended = shop.call(*arguments)
        assert ended.code == 2
        assert "the token *** is known to everybody" in ended.err
        assert "hunter2" not in ended.err + ended.out
    monkeypatch.setenv("BATCHWRIGHT_TOKEN", "correct horse")
    ended = shop.call("run", "jobs.py:fetch", "--json")
    assert ended.code == 0
    assert "correct horse" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run",), "Missing argument 'FILE.py:FUNCTION'; see batchwright run --help"),
        (("run", "absent.py:sales"), "there is no file absent.py"),
        (("run", "job.py:sales"), "did you mean jobs.py?"),
        (("run", "jobs.py:sale"), "did you mean jobs.py:sales?"),
        (("run", "jobs.py"), "write jobs.py:function"),
        (("run", "jobs.py:untpyed"), "did you mean jobs.py:untyped?"),
        ((*SALES, "--modo", "s"), "'--mood'"),
        ((*SALES, "--limit", "abc"), "'abc' is not a whole number"),
        ((*SALES, "--n", "abc"), "'abc' is not a whole number"),
        (("run", "jobs.py:sales"), "Missing option '--day'; see batchwright run jobs.py:sales --help"),
        (("run", "--day", "2026-11-22", "jobs.py:sales"), "--day stands before the job"),
        ((*SALES, "--mood", "wild"), "'wild' is none of s, m"),
        ((*SALES, "--limit", "0"), "0 is too small; write 1 or more"),
        ((*SALES, "--max-failures", "lots"), 'write 50 or "0.1%"'),
        ((*SALES, "--quite"), "--quiet"),
        ((*SALES, "extra"), "unexpected extra argument"),
        (("run", "jobs.py:taken"), "has the name of another option; --limit is taken; rename the parameter"),
        (("run", "jobs.py:untyped", "--x", "1"), "has no annotation"),
        ((*SALES, "--ledger", "jobs.py"), "jobs.py"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_line(shop, arguments, told):
    ended = shop.call(*arguments)
    assert ended.code == 2
    assert ended.out == ""
    (line,) = (line for line in ended.err.splitlines() if line != "building")
    assert line.startswith("error: ")
    assert told in line
    assert not (shop.folder / ".batchwright").exists()
    assert not (shop.folder / "shop.db").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [("1 /", "SyntaxError"), ("import sys; sys.exit(0)", "SystemExit: 0 (line 1)"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_job_file_that_cannot_be_loaded_is_no_bug_of_ours(shop, text, told):
    (shop.folder / "jobs.py").write_text(text)
    ended = shop.call("run", "jobs.py:job")
    assert ended.code == 2
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_a_file_with_one_job_needs_no_function(shop):
    (shop.folder / "single.py").write_text(
        "from batchwright import Job, Step\ndef only(n: int = 3) -> Job:\n"
        "    return Job('only', Step('load', read=range(n), write=lambda rows: None))\n"
    )
    ended = shop.call("run", "single.py", "--n", "4", "--json")
    assert ended.code == 0
    assert ended.document["counts"]["written"] == 4


def test_a_file_without_an_annotated_function_names_those_it_has(shop):
    (shop.folder / "plain.py").write_text(
        "from batchwright import Job, Step\ndef base(n=3):\n    return Job('b', Step('load', read=[n], write=print))\n"
    )
    assert shop.call("run", "plain.py").err == (
        "error: no function of plain.py is annotated -> Job; its functions are base; "
        "write plain.py:base, or annotate it -> Job\n"
    )
    assert "its functions are base; did you mean plain.py:base?" in shop.call("run", "plain.py:bsae").err
    (shop.folder / "values.py").write_text("nothing = 1\n")
    assert "values.py holds no function" in shop.call("run", "values.py").err


def test_a_file_that_is_no_python_is_placed_once(shop):
    (shop.folder / "jobs.py").write_text("x = 1\ndef (")
    assert shop.call("run", "jobs.py").err == (
        "error: jobs.py cannot be loaded; SyntaxError: invalid syntax (line 2); mend it\n"
    )


def test_warnings_are_in_the_summary_and_in_the_document(shop):
    (shop.folder / ".batchwright" / "failures-1.jsonl").mkdir(parents=True)
    ended = shop.call(*SALES, "--json")
    assert ended.code == 3
    assert "  warning: the failure file could not be written; " in ended.err
    (warning,) = ended.document["warnings"]
    assert warning.startswith("the failure file could not be written; ")


def test_help_names_the_exit_codes(shop):
    for arguments in (("run", "--help"), ("run", "jobs.py:sales", "--help")):
        assert "Exit codes: 0 complete, or already complete; 1 failed; 2" in " ".join(shop.call(*arguments).out.split())


def test_help_shows_the_jobs_options_and_those_of_the_command(shop):
    ended = shop.call("run", "jobs.py:sales", "--help")
    assert ended.code == 0
    job, command = ended.out.split("Options of the command:")
    assert "Load the sales of a day." in job
    assert "--day YYYY-MM-DD  the day to load  [required]" in job
    assert "--mood [s|m]" in job
    assert "--tolerate-failures" in command
    assert "--day" not in command


def test_options_of_the_command_may_stand_before_the_job(shop):
    assert shop.call("run", "--ledger", "here.db", "-q", "jobs.py:again").code == 0
    assert (shop.folder / "here.db").exists()


def test_a_dry_run_leaves_no_trace_and_exits_as_the_run_would(shop):
    before = sorted(path.name for path in shop.folder.iterdir())
    ended = shop.call(*SALES, "--dry-run")
    assert (ended.code, ended.out.splitlines()[0]) == (0, "job sales: would run")
    assert "your functions do run" in ended.err
    assert ended.err.splitlines()[-1] == "next: batchwright run jobs.py:sales --day 2026-11-22"
    limited = shop.call(*SALES, "--dry-run", "--max-failures", "90")
    assert limited.err.splitlines()[-1] == "next: batchwright run jobs.py:sales --day 2026-11-22 --max-failures 90"
    found = shop.call(*SALES, "--mood", "STRICT", "--dry-run", "--json")
    assert (found.code, found.document["would_fail"], found.document["steps"][0]["counts"]["read"]) == (1, True, 7)
    assert sorted(path.name for path in shop.folder.iterdir()) == before


def test_a_job_that_exits_while_it_is_built_is_wrong_use(shop):
    (shop.folder / "leaving.py").write_text("import sys\ndef job(n: int = 7):\n    sys.exit(n)\n")
    ended = shop.call("run", "leaving.py:job")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: leaving.py:job cannot be built; it calls sys.exit(7); ")


@pytest.mark.parametrize("content", ["x", "not a ledger\n", "x" * 5_000])
def test_a_file_of_something_else_is_no_ledger_and_is_left_as_it_is(shop, content):
    (shop.folder / "notes.txt").write_text(content)
    ended = shop.call("run", "jobs.py:again", "--ledger", "notes.txt")
    assert ended.code == 2, ended.err
    assert "notes.txt is not a sound SQLite database" in ended.err
    assert (shop.folder / "notes.txt").read_text() == content


def test_a_dry_run_says_what_a_run_would_make_of_what_is_done_already(shop):
    def standing(*options):
        return shop.call(*SALES, "--dry-run", "--json", *options).document["standing"]

    assert standing() is None
    shop.call(*SALES, "--limit", "10")
    assert standing() == "run 1 is STOPPED; would go on from it: load at list item 11"
    shop.call(*SALES)
    assert standing() == "already complete: run 2 is COMPLETED_WITH_FAILURES; would do nothing without --again"
    assert standing("--again") == "would begin anew, after run 2"
    assert shop.call("run", "jobs.py:again", "--dry-run").out.splitlines()[1] == "as it stands: would begin"
