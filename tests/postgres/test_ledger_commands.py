"""The command line on a PostgreSQL ledger, and that no password of its address is ever shown."""

import json
from pathlib import Path

import pytest
from tests.postgres.server import Fresh
from tests.unit.cli.shop import Shop

SALES = ("run", "jobs.py:sales", "--day", "2026-11-22")
SECRET = "s3cret-canary"  # noqa: S105 - one that must not be shown


@pytest.fixture
def shop(tmp_path, monkeypatch, capsys) -> Shop:
    monkeypatch.chdir(tmp_path)
    for name in ("BATCHWRIGHT_LEDGER", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Shop(tmp_path, capsys)


@pytest.fixture
def url(fresh: Fresh) -> str:
    return fresh.url_of("postgres", synchronous_commit="on").replace("postgres@", f"postgres:{SECRET}@")


def test_a_job_is_run_looked_at_and_replayed(shop, url, fresh):
    ended = shop.call(*SALES, "--ledger", url, "--json")
    address = f"postgresql://127.0.0.1:{fresh.server.port}/postgres?records_schema={fresh.records}"
    assert ended.code == 3
    assert (ended.document["ledger"], ended.document["counts"]["written"]) == (address, 18)
    said = [shop.call(*SALES, "--ledger", url)]
    assert "already complete" in said[0].err
    for command in (("status",), ("show", "1"), ("failures", "1"), ("doctor",)):
        for form in ((), ("--json",)):
            said.append(shop.call(*command, *form, "--ledger", url))
            assert said[-1].code == 0, said[-1]
    assert "COMPLETED_WITH_FAILURES" in said[1].out
    shop.mend()
    said.append(shop.call("replay", "1", "--ledger", url))
    assert said[-1].code == 0, said[-1]
    said.append(shop.call("status", "--json", "--ledger", url))
    assert [run["kind"] for run in said[-1].document["runs"]] == ["replay", "run"]
    assert not any(SECRET in ended.out + ended.err for ended in said)


def test_the_next_command_names_the_ledger_without_its_password(shop, url, fresh):
    ended = shop.call(*SALES, "--ledger", url)
    (line,) = [line for line in ended.err.splitlines() if line.startswith("next: batchwright failures")]
    assert "--ledger 'postgresql://postgres@127.0.0.1" in line
    assert SECRET not in ended.err


def test_the_variable_names_it_too_and_no_sqlite_ledger_is_made(shop, url, monkeypatch):
    monkeypatch.setenv("BATCHWRIGHT_LEDGER", url)
    ended = shop.call(*SALES)
    assert ended.code == 3
    assert "next: batchwright failures 1\n" in ended.err
    assert shop.call("status").out.count("sales") == 1
    assert not (shop.folder / ".batchwright" / "ledger.db").exists()


def test_the_failure_file_is_in_a_folder_of_that_ledgers_own(shop, url):
    file = Path(shop.call(*SALES, "--ledger", url, "--json").document["failure_file"])
    assert file.parent.name.startswith("postgresql-")
    assert file.parent.parent == shop.folder / ".batchwright"
    assert [json.loads(line)["ordinal"] for line in file.read_text().splitlines()] == [7, 17]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_killed_run_is_lost_and_gone_on_with_at_once_on_its_own_machine(shop, url):
    assert shop.spawn("run", "jobs.py:killed", "--ledger", url).code == -9
    assert "LOST" in shop.call("status", "--ledger", url).out
    shop.mend()
    assert shop.call("run", "jobs.py:killed", "--ledger", url).code == 0
    (gone, run) = shop.call("status", "--ledger", url, "--json").document["runs"]
    assert (gone["status"], run["status"]) == ("COMPLETED", "FAILED")


def test_a_run_that_another_machine_is_at_is_refused_with_4(shop, url, fresh):
    assert shop.spawn("run", "jobs.py:killed", "--ledger", url).code == -9
    fresh.connection.execute(
        f"UPDATE {fresh.records}.batchwright_leases SET host = 'elsewhere', pid = 99, process = 'b p 99 1'"
    )
    ended = shop.call("run", "jobs.py:killed", "--ledger", url)
    assert ended.code == 4
    assert "process 99 on elsewhere, last heard of" in ended.err
    assert "RUNNING" in shop.call("status", "--ledger", url).out
    fresh.connection.execute(f"UPDATE {fresh.records}.batchwright_leases SET lease_until = now() - interval '1 second'")
    assert "LOST" in shop.call("status", "--ledger", url).out
    shop.mend()
    assert shop.call("run", "jobs.py:killed", "--ledger", url).code == 0


def test_doctor_says_that_there_is_no_ledger_yet_and_what_is_wrong_with_one(shop, url, fresh):
    ended = shop.call("doctor", "--json", "--ledger", url)
    assert (ended.code, ended.document["facts"]["ledger exists"]) == (0, False)
    shop.call(*SALES, "--ledger", url)
    facts = shop.call("doctor", "--json", "--ledger", url).document["facts"]
    assert (facts["ledger exists"], facts["ledger integrity"], facts["ledger executions"]) == (True, "ok", 1)
    ended = shop.call("doctor", "--ledger", url.replace(f":{fresh.server.port}/", ":1/"))
    assert ended.code == 1
    assert "cannot be reached" in ended.err
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize("command", [SALES, ("status",), ("show", "1"), ("failures", "1"), ("replay", "1")])
def test_a_server_that_cannot_be_reached_is_one_line_and_exit_2(shop, url, fresh, command):
    ended = shop.call(*command, "--ledger", url.replace(f":{fresh.server.port}/", ":1/"))
    assert ended.code == 2
    assert "the ledger cannot be used: postgresql://127.0.0.1:1/postgres" in ended.err
    assert "Traceback" not in ended.err
    assert SECRET not in ended.err


def test_work_is_listed_resumed_given_up_and_forgotten(shop, url):
    named = ("--ledger", url)
    shop.call("run", "jobs.py:again", "--limit", "1", *named)
    said = [shop.call("list", "--json", *named), shop.call("show", "1", *named), shop.call("resume", "1", *named)]
    assert [ended.code for ended in said] == [0, 0, 0]
    assert said[0].document["jobs"][0]["status"] == "STOPPED"
    assert "goes on at" in said[1].out
    shop.call("run", "jobs.py:again", "--again", "--yes", *named)
    shop.call("run", "jobs.py:again", "--n", "9", "--limit", "2", *named)
    said += [shop.call("abandon", "4", "--yes", *named), shop.call("prune", "--older-than", "0h", "--json", *named)]
    assert (said[-2].code, "leaves 2 outputs" in said[-2].err) == (0, True)
    assert (said[-1].document["executions"], said[-1].document["problems"]) == (2, [])
    assert "already complete (run 3)" in shop.call("run", "jobs.py:again", *named).err
    assert shop.call("run", "jobs.py:again", "--n", "9", *named).code == 2
    assert shop.spawn("run", "jobs.py:killed", *named).code == -9
    said += [shop.call("list", *named), shop.call("abandon", "5", "--yes", *named)]
    assert ("LOST" in said[-2].out, said[-1].code) == (True, 0)
    assert not any(SECRET in ended.out + ended.err for ended in said)
