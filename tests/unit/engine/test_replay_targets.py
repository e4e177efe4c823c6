"""Replay into files and functions, of items that have changed, with filters; failures that are ignored."""

import pytest
from tests.unit.engine.runs import as_row, rows, run_here, url
from tests.unit.engine.test_replay_failures import Mendable, loaded, states

from batchwright import Job, Skip, Step, each, replay
from batchwright.ledgers.memory import MemoryLedger
from batchwright.model.errors import GroundChangedError, NotReplayableError
from batchwright.readers import csv_rows
from batchwright.writers import csv_file, insert, json_lines_file, text_file
from batchwright.writers.amended_files import AmendingSink
from batchwright.writers.stages import Stage

DAY = {"day": "2026-11-24"}
"""With it a job is complete once it is finished; without, it would begin anew."""


def daily(job):
    return Job("j", *job.steps, parameters=DAY)


class Killed(BaseException):
    """What nothing of ours catches."""


def as_text(item):
    return f"item {item['x']}"


def filed(path, process, kind):
    """A job whose items end in a file, and what an item makes of it."""
    writers = {"csv": csv_file, "jsonl": json_lines_file, "text": text_file}
    return Job(
        "j",
        Step(
            "load",
            read=range(6),
            process=lambda item: as_text(process(item)) if kind == "text" else process(item),
            write=writers[kind](path),
            chunk_size=2,
            skip=Skip(),
        ),
        parameters=DAY,
    )


CONTENT = {"csv": ("x\n", "{}\n"), "jsonl": ("", '{{"x": {}}}\n'), "text": ("", "item {}\n")}


def content(kind, *items):
    head, line = CONTENT[kind]
    return head + "".join(line.format(item) for item in items)


@pytest.mark.parametrize("kind", CONTENT)
def test_a_file_is_published_anew_with_the_replayed_items_at_its_end(tmp_path, kind):
    process, out = Mendable(1, 3, 4), tmp_path / "out"
    job = filed(out, process, kind)
    ledger = run_here(job).ledger
    out.chmod(0o640)
    process.refused = {3}
    result = replay(1, ledger=ledger, job=job)
    assert (result.replayed, result.still_open, result.warnings) == (2, 1, ())
    assert out.read_text() == content(kind, 0, 2, 3, 5, 1, 4).replace(
        content(kind, 3).removeprefix(CONTENT[kind][0]), "", 1
    )
    assert out.stat().st_mode & 0o777 == 0o640
    process.refused = set()
    replay(1, ledger=ledger, job=job)
    assert out.read_text() == content(kind, 0, 2, 5, 1, 4, 3)
    assert {state for _, state in states(ledger)} == {"replayed"}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out"]
    assert run_here(job, ledger=ledger, again=False).result.already_complete


def test_a_file_without_any_item_gets_its_header_with_the_first_that_is_replayed(tmp_path):
    process, out = Mendable(*range(6)), tmp_path / "out"
    job = filed(out, process, "csv")
    ledger = run_here(job).ledger
    assert out.read_text() == ""
    process.refused = set()
    assert replay(1, ledger=ledger, job=job).replayed == 6
    assert out.read_text() == content("csv", *range(6))


def test_a_file_that_somebody_has_changed_since_is_left_alone(tmp_path):
    process, out = Mendable(1), tmp_path / "out"
    job = filed(out, process, "text")
    ledger = run_here(job).ledger
    out.write_text(out.read_text().upper())
    process.refused = set()
    with pytest.raises(GroundChangedError, match="not as this step left it"):
        replay(1, ledger=ledger, job=job)
    assert out.read_text() == content("text", 0, 2, 3, 4, 5).upper()
    assert states(ledger) == [(1, "open")]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_file_that_is_not_complete_yet_is_not_replayed_into(tmp_path):
    job = filed(tmp_path / "out", Mendable(1), "text")
    ledger = run_here(job, limit=2).ledger
    with pytest.raises(NotReplayableError, match=r"not complete yet.*run the job first"):
        replay(1, ledger=ledger, job=job)


@pytest.mark.parametrize("killed_at", ["prepare", "amended", "replace_target", "sync_target", "closed", "lost"])
@pytest.mark.parametrize("looks_next", ["replay", "run"])
def test_a_publication_that_was_killed_is_brought_to_an_end_or_back(tmp_path, monkeypatch, killed_at, looks_next):
    process, out = Mendable(1, 3), tmp_path / "out"
    job = filed(out, process, "text")
    ledger = KillsAtSave(killed_at)
    run_here(job, ledger=ledger)
    process.refused = set()
    with monkeypatch.context() as patch:
        ledger.armed = True
        if killed_at in ("prepare", "replace_target", "sync_target", "lost"):
            kill_at(patch, "replace_target" if killed_at == "lost" else killed_at)
        patch.setattr(AmendingSink, "close", lambda sink: sink._stage.close())
        with pytest.raises(Killed):
            replay(1, ledger=ledger, job=job)
    ledger.armed = False
    if killed_at == "lost":
        next(tmp_path.glob(".out.*.stage")).unlink()
    if looks_next == "run":
        assert run_here(job, ledger=ledger).result.already_complete
        published = killed_at not in ("prepare", "amended", "lost")
        assert out.read_text() == content("text", 0, 2, 4, 5, *((1, 3) if published else ()))
        assert {state for _, state in states(ledger)} == {"replayed" if published else "open"}
    replay(1, ledger=ledger, job=job)
    assert out.read_text() == content("text", 0, 2, 4, 5, 1, 3)
    assert states(ledger) == [(1, "replayed"), (3, "replayed")]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


class KillsAtSave(MemoryLedger):
    """Dies before it stores that a file is to be published, or that it is."""

    def __init__(self, killed_at):
        super().__init__()
        self.armed, self.killed_at = False, killed_at

    def save_checkpoint(self, key, checkpoint, failures):
        if self.armed and self.killed_at == "amended":
            raise Killed
        super().save_checkpoint(key, checkpoint, failures)

    def settle_failures(self, key, ordinals, *state, **checkpoint):
        if self.armed and self.killed_at == "closed":
            raise Killed
        super().settle_failures(key, ordinals, *state, **checkpoint)


def kill_at(patch, name):
    def killed(stage):
        raise Killed

    patch.setattr(Stage, name, killed)


@pytest.mark.parametrize("form", [each, lambda function: lambda items: [function(item) for item in items]])
def test_a_function_is_called_with_the_items_and_says_what_may_happen_twice(tmp_path, form, caplog):
    process, taken = Mendable(1, 4), []
    job = Job("j", Step("load", read=range(6), process=process, write=form(taken.append), chunk_size=1, skip=Skip()))
    ledger = run_here(job).ledger
    taken.clear()
    process.refused = set()
    result = replay(1, ledger=ledger, job=job)
    assert result.replayed == 2
    assert taken == [as_row(1), as_row(4)]
    assert "is given the same items once more" in result.warnings[0]
    assert result.warnings[0] in caplog.text
    assert states(ledger) == [(1, "replayed"), (4, "replayed")]


def test_a_function_that_is_killed_is_called_again_for_what_was_not_closed(tmp_path):
    process, taken = Mendable(1, 4), []

    def take(item):
        taken.append(item["x"])
        if len(taken) == 6:
            raise Killed

    class Ledger(MemoryLedger):
        """As it is."""

    ledger = Ledger()
    job = Job("j", Step("load", read=range(6), process=process, write=take_all(take), chunk_size=1, skip=Skip()))
    run_here(job, ledger=ledger)
    process.refused = set()
    with pytest.raises(Killed):
        replay(1, ledger=ledger, job=job)
    replay(1, ledger=ledger, job=job)
    assert taken == [0, 2, 3, 5, 1, 4, 4]


def take_all(take):
    return lambda items: [take(item) for item in items]


def people(path, text):
    path.write_text(text)
    return csv_rows(path)


def to_person(row):
    return {"id": row["id"], "age": int(row["age"])}


def test_an_item_that_was_mended_in_the_input_is_replayed_only_when_that_is_said(tmp_path):
    source = tmp_path / "people.csv"
    read = people(source, "id,age\n1,10\n2,x\n3,30\n4,y\n")
    job = loaded(tmp_path / "t.db", to_person, read=read)
    ledger = run_here(job).ledger
    people(source, "id,age\n1,10\n2,twenty\n3,30\n4,40\n")
    result = replay(1, ledger=ledger, job=job)
    assert (result.replayed, result.still_open, result.steps[0].changed) == (0, 2, 2)
    assert "item 2" in result.steps[0].reasons[0]
    assert "--accept-changed shows what is there now" in result.steps[0].reasons[0]
    result = replay(1, ledger=ledger, job=job, accept_changed=True)
    assert (result.replayed, result.still_open, result.steps[0].unaccepted) == (0, 2, 2)
    assert "then {'id': '2', 'age': 'x'}; now {'id': '2', 'age': 'twenty'}; --yes" in result.steps[0].reasons[0]
    result = replay(1, ledger=ledger, job=job, accept_changed=True, yes=True)
    assert (result.replayed, result.still_open, result.steps[0].changed) == (1, 1, 0)
    assert "invalid literal for int() with base 10: 'twenty'" in result.steps[0].reasons[0]
    assert rows(tmp_path / "t.db")[-1] == ("4", 40)


def test_every_mended_item_is_shown_and_its_advice_is_that_of_a_replay(tmp_path):
    source = tmp_path / "people.csv"
    read = people(source, "id,age\n" + "".join(f"{n},x\n" for n in range(20)))
    job = loaded(tmp_path / "t.db", to_person, read=read)
    ledger = run_here(job).ledger
    people(source, "id,age\n" + "".join(f"{n},{n}00\n" for n in range(20)))
    refused = replay(1, ledger=ledger, job=job).steps[0]
    assert (refused.still_open, len(refused.reasons)) == (20, 5)
    assert all("--accept-changed shows" in reason and "--again" not in reason for reason in refused.reasons)
    seen = replay(1, ledger=ledger, job=job, accept_changed=True, dry_run=True).steps[0]
    assert (seen.unaccepted, len(seen.reasons)) == (20, 20)


def test_records_added_before_it_make_an_item_another_one(tmp_path):
    source = tmp_path / "people.csv"
    ledger = run_here(loaded(tmp_path / "u.db", to_person, read=people(source, "id,age\n1,10\n2,x\n"))).ledger
    source.write_text('id,age\n"1\n",10\n2,20\n')
    job = loaded(tmp_path / "u.db", to_person, read=csv_rows(source))
    result = replay(1, ledger=ledger, job=job, accept_changed=True, yes=True)
    assert (result.replayed, result.steps[0].changed) == (0, 1)
    assert "records were added or removed before it" in result.steps[0].reasons[0]


def test_a_record_that_has_moved_is_found_and_no_other_is_replayed_for_it(tmp_path):
    """A line was added above: where the item failed a good one stands now, which is in the table already."""
    source = tmp_path / "people.csv"
    refused = {"x", "y"}

    def mended(row):
        if row["age"] in refused:
            raise ValueError(row["age"])
        return row

    job = loaded(tmp_path / "t.db", mended, read=people(source, "id,age\n1,10\n2,x\n3,30\n4,y\n5,50\n"))
    ledger = run_here(job).ledger
    people(source, "id,age\n0,5\n1,10\n2,x\n3,30\n4,y\n5,50\n")
    refused.clear()
    assert replay(1, ledger=ledger, job=job).replayed == 0
    seen = replay(1, ledger=ledger, job=job, accept_changed=True, dry_run=True)
    assert (seen.replayed, seen.still_open) == (2, 0)
    result = replay(1, ledger=ledger, job=job, accept_changed=True)
    assert (result.replayed, result.still_open) == (2, 0)
    assert sorted(rows(tmp_path / "t.db")) == [("1", "10"), ("2", "x"), ("3", "30"), ("4", "y"), ("5", "50")]


def test_equal_records_are_each_replayed_once_and_never_more_than_there_are(tmp_path):
    source = tmp_path / "people.csv"
    refused = {"x"}

    def mended(row):
        if row["age"] in refused:
            raise ValueError(row["age"])
        return row

    job = loaded(tmp_path / "t.db", mended, read=people(source, "id,age\n2,x\n2,x\n2,x\n"))
    ledger = run_here(job).ledger
    people(source, "id,age\n1,10\n2,x\n2,x\n")
    refused.clear()
    result = replay(1, ledger=ledger, job=job, accept_changed=True)
    assert (result.replayed, result.still_open) == (2, 1)
    assert len(rows(tmp_path / "t.db")) == 2


def test_what_is_shown_of_a_changed_item_keeps_to_the_rules_of_payloads(tmp_path):
    source = tmp_path / "people.csv"
    read, skip = people(source, "id,age\n1,10\n2,x\n"), Skip(on=ValueError, redact=("age",))
    job = Job("j", Step("s", read=read, process=to_person, write=insert(url(tmp_path / "t.db"), "t"), skip=skip))
    ledger = run_here(job).ledger
    people(source, "id,age\n1,10\n2,77\n")
    (reason,) = replay(1, ledger=ledger, job=job, accept_changed=True).steps[0].reasons
    assert "another item stands there now" in reason
    assert "77" not in reason.replace(str(tmp_path), "")


def test_where_the_input_is_gone_the_stored_item_is_replayed(tmp_path):
    source = tmp_path / "people.csv"
    read = people(source, "id,age\n1,10\n2,x\n")
    mended: list[str] = []
    job = loaded(tmp_path / "t.db", lambda row: {"id": row["id"], "age": len(mended) or int(row["age"])}, read=read)
    ledger = run_here(job).ledger
    source.unlink()
    mended.append("yes")
    assert replay(1, ledger=ledger, job=job).replayed == 1
    assert rows(tmp_path / "t.db") == [("1", 10), ("2", 1)]


@pytest.mark.parametrize(
    ("skip", "reason"), [(Skip(payload=False), "it was not kept"), (Skip(redact=["age"]), "a part of it is hidden")]
)
def test_an_item_that_is_not_stored_whole_and_gone_from_the_input_stays_open_with_the_reason(tmp_path, skip, reason):
    source = tmp_path / "people.csv"
    read = people(source, "id,age\n1,10\n2,x\n")
    job = Job("j", Step("load", read=read, process=to_person, write=insert(url(tmp_path / "t.db"), "t"), skip=skip))
    ledger = run_here(job).ledger
    result = replay(1, ledger=ledger, job=job, stored=True)
    assert (result.replayed, result.still_open) == (0, 1)
    assert reason in result.steps[0].reasons[0]
    source.unlink()
    result = replay(1, ledger=ledger, job=job)
    assert (result.replayed, result.still_open) == (0, 1)
    assert "people.csv" in result.steps[0].reasons[0]


def test_an_item_whose_payload_is_not_kept_is_known_by_its_digest(tmp_path):
    source, ages = tmp_path / "people.csv", {"x": "20"}
    read = people(source, "id,age\n1,10\n2,x\n3,y\n")
    target = insert(url(tmp_path / "t.db"), "t")
    known: dict[str, str] = {}
    job = Job(
        "j",
        Step(
            "load",
            read=read,
            process=lambda row: {"id": row["id"], "age": int(known.get(row["age"], row["age"]))},
            write=target,
            skip=Skip(payload=False),
        ),
    )
    ledger = run_here(job).ledger
    known.update(ages)
    people(source, "id,age\n1,10\n2,x\n3,9\n")
    result = replay(1, ledger=ledger, job=job)
    assert (result.replayed, result.steps[0].changed) == (1, 1)
    assert rows(tmp_path / "t.db") == [("1", 10), ("2", 20)]


def test_a_generator_is_read_once_for_all_its_failures(tmp_path):
    opened, process = [], Mendable(3, 5, 40)

    def numbers():
        opened.append(1)
        yield from range(50)

    job = loaded(tmp_path / "t.db", process, read=numbers, chunk_size=2)
    ledger = run_here(job).ledger
    opened.clear()
    process.refused = set()
    assert replay(1, ledger=ledger, job=job).replayed == 3
    assert len(opened) == 1
    assert sorted(rows(tmp_path / "t.db")) == list(range(50))
