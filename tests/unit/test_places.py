"""Where the ledger and the failure file are."""

import json
import stat
from datetime import UTC, datetime

import pytest

from batchwright.model.block import Place, Position
from batchwright.model.failure import Failure, Phase
from batchwright.places import ledger_path, ledger_place, report_failures, report_place, without_password


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("BATCHWRIGHT_LEDGER", raising=False)


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "project" / "jobs" / "sales.py"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_without_anything_the_ledger_is_beside_the_source_file(source):
    assert ledger_path(source) == source.parent / ".batchwright" / "ledger.db"
    assert not (source.parent / ".batchwright").exists()


def test_the_nearest_folder_upward_from_the_source_file_goes_before_that(source, tmp_path):
    (tmp_path / ".batchwright").mkdir()
    assert ledger_path(source) == tmp_path / ".batchwright" / "ledger.db"
    (source.parent.parent / ".batchwright").mkdir()
    assert ledger_path(source) == source.parent.parent / ".batchwright" / "ledger.db"


def test_the_working_directory_does_not_matter(source, tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / ".batchwright").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert ledger_path(source) == source.parent / ".batchwright" / "ledger.db"


@pytest.mark.parametrize("name", [None, "<stdin>", "/tmp/ipykernel_123/456.py"])
def test_in_a_repl_or_notebook_it_is_the_working_directory(tmp_path, monkeypatch, name):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    assert ledger_path(Path(name) if name else None) == tmp_path / ".batchwright" / "ledger.db"


def test_the_variable_goes_before_the_folder_and_what_is_given_before_the_variable(source, tmp_path, monkeypatch):
    (source.parent / ".batchwright").mkdir()
    monkeypatch.setenv("BATCHWRIGHT_LEDGER", str(tmp_path / "env.db"))
    assert ledger_path(source) == tmp_path / "env.db"
    assert ledger_path(source, tmp_path / "given.db") == tmp_path / "given.db"


def test_an_empty_variable_is_none(source, monkeypatch):
    monkeypatch.setenv("BATCHWRIGHT_LEDGER", "")
    assert ledger_path(source) == source.parent / ".batchwright" / "ledger.db"


def test_a_folder_holds_a_ledger_of_the_usual_name(tmp_path):
    assert ledger_path(None, tmp_path) == tmp_path / "ledger.db"
    assert ledger_path(None, f"{tmp_path}/new/") == tmp_path / "new" / "ledger.db"


def test_an_address_and_a_home_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert ledger_path(None, "sqlite:///ledger.db") == tmp_path / "ledger.db"
    assert ledger_path(None, f"sqlite:///{tmp_path}/l.db") == tmp_path / "l.db"
    assert ledger_path(None, "~/l.db") == tmp_path / "l.db"


def failure(ordinal: int) -> Failure:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Failure("s", Position(ordinal), Phase.READ, "ValueError", "ümlaut\n", 1, Place("in.csv", ordinal + 2), at)


def test_the_failure_file_is_whole_json_lines_readable_by_its_owner_alone(tmp_path):
    path = report_failures(tmp_path / "ledger.db", 7, "daily", map(failure, range(3)))
    assert path == str(tmp_path / "failures-7.jsonl")
    assert stat.S_IMODE((tmp_path / "failures-7.jsonl").stat().st_mode) == 0o600
    lines = [json.loads(line) for line in (tmp_path / "failures-7.jsonl").read_text("utf-8").splitlines()]
    assert [(line["job"], line["run"], line["step"], line["line"], line["error"]) for line in lines] == [
        ("daily", 7, "s", number, "ümlaut\n") for number in (2, 3, 4)
    ]


def test_a_failure_file_that_breaks_off_leaves_nothing_and_the_old_one_whole(tmp_path):
    def broken():
        yield failure(0)
        raise OSError("disk")

    (tmp_path / "failures-7.jsonl").write_text("old")
    with pytest.raises(OSError, match="disk"):
        report_failures(tmp_path / "ledger.db", 7, "daily", broken())
    assert [path.name for path in tmp_path.iterdir()] == ["failures-7.jsonl"]
    assert (tmp_path / "failures-7.jsonl").read_text() == "old"


def test_without_a_durable_ledger_there_is_no_failure_file():
    assert report_failures(None, 7, "daily", iter(())) == ""


def test_a_postgresql_address_is_no_path(source, monkeypatch):
    url = "postgresql://joe@db:5432/shop?records_schema=jobs"
    assert ledger_place(source, url) == url
    assert ledger_place(source) == source.parent / ".batchwright" / "ledger.db"
    monkeypatch.setenv("BATCHWRIGHT_LEDGER", url)
    assert ledger_place(source) == url
    assert ledger_place(source, "here.db") == ledger_path(source, "here.db")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://joe:s3cret@db:5432/shop", "postgresql://joe@db:5432/shop"),
        ("postgresql://joe:s3c@ret@db/shop", "postgresql://joe@db/shop"),
        ("postgresql:///shop?user=joe&password=s3cret&host=/run", "postgresql:///shop?user=joe&host=%2Frun"),
        ("postgres://db/shop?sslpassword=s3cret", "postgres://db/shop"),
        ("here/ledger.db", "here/ledger.db"),
    ],
)
def test_a_place_is_shown_without_its_password(url, shown):
    assert without_password(url) == shown


def test_the_failure_files_of_a_database_have_a_folder_of_their_own(source):
    one, other = (report_place(f"postgresql://db/{name}", source) for name in ("shop", "bank"))
    assert one.parent != other.parent
    assert one.parent.parent == source.parent / ".batchwright"
    assert report_place("/data/ledger.db", source) == source.__class__("/data/ledger.db")
    path = report_failures(one, 3, "sales", iter(()))
    assert stat.S_IMODE(one.parent.stat().st_mode) == 0o700
    assert path == str(one.parent / "failures-3.jsonl")
