"""What a user declares: refused when built, in one line that says what is wrong, what was found, what to do."""

from datetime import date
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest

from batchwright import DROP, Job, NonIdentifying, Retry, Secret, Skip, Step, each
from batchwright.job import one_step_job, ordered_steps
from batchwright.model.errors import ConfigurationError, DeclarationError, ParameterError
from batchwright.model.processor import ProcessorKind
from batchwright.writers import execute, text_file


def step(name="s", **options):
    return Step(name, **{"read": [1], "write": len, **options})


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: step(""), "step '': name must be a text of 1 to 100 characters; got ''"),
        (lambda: step("x" * 101), "1 to 100 characters"),
        (lambda: step(7), "step 7: name must be a text"),
        (lambda: step("load", chunk_size=0), "step 'load': chunk_size must be at least 1; got 0"),
        (lambda: step("load", chunk_size=2.5), "chunk_size must be at least 1; got 2.5"),
        (lambda: step("load", chunk_size=True), "chunk_size must be at least 1; got True"),
        (lambda: step("load", read="in.csv"), "got the text 'in.csv'.*to read a file, write read=text_lines"),
        (lambda: step("load", read=b"x"), "read must be a reader, a collection or a function"),
        (lambda: step("load", read=7), "step 'load': read must be a reader, a collection or a function; got 7"),
        (lambda: step("load", write="out.csv"), "step 'load': write must be a writer or a function; got 'out.csv'"),
        (lambda: step("load", process="x"), "step 'load': process must be a function; got 'x'"),
        (lambda: step("load", retry=3), "step 'load': retry must be a Retry; got 3"),
        (lambda: step("load", skip=ValueError), "step 'load': skip must be a Skip; got <class 'ValueError'>"),
        (lambda: step("load", skip=Retry()), "step 'load': skip must be a Skip"),
        (lambda: step("load", write_retry=Skip()), "step 'load': write_retry must be a Retry"),
        (lambda: step("load", checkpoint_seconds=-1), "checkpoint_seconds must not be negative; got -1"),
        (lambda: step("load", checkpoint_seconds=float("nan")), "checkpoint_seconds must not be negative; got nan"),
        (lambda: Job("", step()), "a job's name must be a text of 1 to 100 characters; got ''"),
        (lambda: Job("j"), "job 'j' has no steps; list at least one Step"),
        (lambda: Job("j", len), "job 'j': only steps can be listed; got <built-in function len>"),
        (lambda: Job("j", step("a"), step("a")), "job 'j': step names must differ; 'a' stands 2 times; rename one"),
        (lambda: Job("j", step("a", after="b")), "step 'a': after names a step that is not there; got 'b'; .*are a"),
        (
            lambda: Job("j", step("a", after="b"), step("b", after="a")),
            "job 'j': steps wait for each other in a circle; 'a', 'b'; mend their after=",
        ),
        (lambda: Job("j", step("a", after="a")), "in a circle; 'a'"),
        (lambda: Job("j", step("a", after="c"), step("b"), step("c")), "in a circle; 'a', 'b', 'c'"),
        (lambda: Retry(attempts=0), "Retry: attempts must be at least 1; got 0"),
        (lambda: Retry(delay_seconds=-1), "delays must not be negative"),
        (lambda: Retry(multiplier=0.5), "multiplier must be at least 1; got .*multiplier=0.5"),
        (lambda: Retry(on="ValueError"), r"Retry: on must be an exception class .*write Retry\(on=ValueError\)"),
        (lambda: Skip(on=()), "Skip: on must be an exception class"),
        (lambda: Skip(on=ValueError()), "Skip: on must be an exception class"),
        (lambda: Skip(limit=-1), 'the limit on failures must be a count or a percentage; got -1; write 50 or "0.1%"'),
        (lambda: Skip(limit="many"), "got 'many'"),
        (lambda: Skip(limit="101%"), "got '101%'"),
        (lambda: Skip(limit="nan%"), "got 'nan%'"),
        (lambda: Skip(limit=True), "got True"),
        (lambda: Skip(limit=0.01), "got 0.01"),
        (lambda: Skip(limit=[1]), r"got \[1\]"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_built(declare, says):
    with pytest.raises(DeclarationError, match=says) as caught:
        declare()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_declaring_opens_nothing_and_calls_nothing():
    def never(*_):
        raise AssertionError

    Job("j", Step("s", read=never, process=never, write=each(never)))


def test_a_declaration_cannot_be_changed_and_is_equal_only_to_itself():
    declared = step()
    with pytest.raises(AttributeError):
        declared.chunk_size = 7
    with pytest.raises(AttributeError):
        Job("j", declared).name = "other"
    assert declared != step()


def test_a_step_follows_the_one_listed_before_it_and_after_replaces_that():
    job = Job(
        "j", step("a"), step("b"), step("c", after="a"), step("d"), step("e", after=()), step("f", after=["b", "e"])
    )
    assert job.predecessors() == {"a": (), "b": ("a",), "c": ("a",), "d": ("c",), "e": (), "f": ("b", "e")}
    assert [found.name for found in ordered_steps(job)] == ["a", "b", "c", "d", "e", "f"]


def test_steps_are_ordered_by_what_they_follow_and_otherwise_as_listed():
    job = Job("j", step("report", after=["load", "clean"]), step("load", after=()), step("clean"))
    assert [found.name for found in ordered_steps(job)] == ["load", "clean", "report"]


def test_a_single_step_is_a_job_of_its_name_that_no_parameter_identifies():
    job = one_step_job(step("load"))
    assert (job.name, job.identifiable, dict(job.parameters)) == ("load", False, {})


def plain(item):
    return item


def generator(item):
    yield item


async def coroutine(item):
    return item


async def async_generator(item):
    yield item


class Called:
    def __call__(self, item):
        yield item


class Method:
    async def process(self, item):
        return item


@pytest.mark.parametrize(
    ("process", "kind"),
    [
        (None, ProcessorKind.NONE),
        (plain, ProcessorKind.FUNCTION),
        (str, ProcessorKind.FUNCTION),
        (len, ProcessorKind.FUNCTION),
        (lambda item: DROP, ProcessorKind.FUNCTION),
        (generator, ProcessorKind.GENERATOR),
        (partial(generator), ProcessorKind.GENERATOR),
        (partial(partial(async_generator)), ProcessorKind.ASYNC_GENERATOR),
        (Called(), ProcessorKind.GENERATOR),
        (partial(Called()), ProcessorKind.GENERATOR),
        (coroutine, ProcessorKind.ASYNC),
        (Method().process, ProcessorKind.ASYNC),
    ],
)
def test_the_kind_of_a_processor_is_recognised(process, kind):
    assert step(process=process).processor_kind is kind


def daily(
    day: date, shop: str = "all", workers: Annotated[int, NonIdentifying] = 1, key: Annotated[str, Secret] = ""
) -> Job:
    return Job("daily", step(f"load {day} {shop} {workers} {len(key)}"))


DAY = date(2026, 11, 22)


def test_a_job_of_a_function_keeps_its_parameters_and_origin():
    job = Job.of(daily, day=DAY, shop="north")
    assert job.parameters == {"day": DAY, "shop": "north"}
    assert job.origin is not None
    assert job.origin.path == __file__
    assert job.origin.function == "daily"
    assert job.origin.digest == job.definition_digest
    assert job.steps[0].name == "load 2026-11-22 north 1 0"


def test_parameters_equal_to_their_default_stay_out_of_the_key():
    assert Job.of(daily, day=DAY).key == Job.of(daily, day=DAY, shop="all").key
    assert Job.of(daily, day=DAY).key != Job.of(daily, day=DAY, shop="north").key
    assert Job.of(daily, day=DAY).key != Job.of(daily, day=date(2026, 11, 23)).key


def test_a_parameter_of_another_type_than_its_default_is_no_default():
    def job(*, flag: bool = True) -> Job:
        return Job("j", step())

    assert Job.of(job, flag=1).key != Job.of(job).key


def test_non_identifying_parameters_are_kept_but_stay_out_of_the_key():
    job = Job.of(daily, day=DAY, workers=8)
    assert job.key == Job.of(daily, day=DAY).key
    assert job.parameters["workers"] == 8


def test_a_secret_is_not_kept_not_identifying_and_not_shown():
    job = Job.of(daily, day=DAY, key="hunter2")
    assert job.key == Job.of(daily, day=DAY).key
    assert job.parameters == {"day": DAY}
    assert job.secrets == ("hunter2",)
    assert "hunter2" not in repr(job)
    assert job.steps[0].name.endswith("7")


def test_a_job_whose_only_parameters_do_not_identify_it_is_not_identifiable():
    def job(workers: Annotated[int, NonIdentifying()] = 1, key: Annotated[str, Secret()] = "") -> Job:
        return Job("j", step())

    assert not Job.of(job).identifiable
    assert not Job.of(job, workers=2, key="k").identifiable
    assert Job.of(daily, day=DAY).identifiable


def test_equal_parameters_in_another_order_are_the_same_work():
    first = Job("j", step(), parameters={"a": 1, "b": Decimal("1.0")})
    second = Job("j", step(), parameters={"b": Decimal("1.0"), "a": 1})
    assert first.key == second.key
    assert first.key != Job("other", step(), parameters=first.parameters).key


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "the parameters do not fit daily.*missing a required argument: 'day'"),
        ({"day": DAY, "dya": 1}, "unexpected keyword argument 'dya'"),
        ({"day": DAY, "shop": object()}, "job 'daily': parameter 'shop' cannot be stored.*build objects inside"),
        ({"day": DAY, "shop": float("nan")}, "parameter 'shop' cannot be stored"),
    ],
)
def test_parameters_that_do_not_fit_or_cannot_be_stored_are_refused(given, says):
    with pytest.raises(ParameterError, match=says) as caught:
        Job.of(daily, **given)
    assert caught.value.exit_code == 2


def test_parameters_given_by_hand_must_be_storable_too():
    with pytest.raises(ParameterError, match="job 'j': parameter 'x' cannot be stored"):
        Job("j", step(), parameters={"x": object()})


def test_a_function_that_returns_no_job_is_refused():
    with pytest.raises(DeclarationError, match=r"must return a Job; it returned NoneType; end it with return Job"):
        Job.of(lambda: None)


def test_an_error_of_the_job_function_is_its_own():
    def job() -> Job:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Job.of(job)


def test_a_member_of_an_enum_is_a_parameter_and_equal_to_its_default():
    class Colour(Enum):
        RED = "red"
        BLUE = "blue"

    def job(colour: Colour = Colour.RED) -> Job:
        return Job("j", step())

    globals()["Colour"] = Colour
    assert Job.of(job, colour=Colour.RED).key == Job.of(job).key
    assert Job.of(job, colour=Colour.BLUE).key != Job.of(job).key


def test_the_digest_of_a_definition_follows_names_order_and_addresses():
    first = Job("j", step("a"), step("b")).definition_digest
    assert first == Job("j", step("a"), step("b")).definition_digest
    assert first != Job("j", step("b"), step("a")).definition_digest
    assert first != Job("j", step("a"), step("b", after=())).definition_digest
    assert first != Job("j", step("a"), step("b", write=print)).definition_digest


def test_every_error_of_a_declaration_is_an_error_of_configuration():
    assert issubclass(DeclarationError, ConfigurationError)
    assert issubclass(ParameterError, ConfigurationError)


def test_a_writer_that_would_do_nothing_is_refused_when_built():
    async def write(outputs):
        raise AssertionError

    with pytest.raises(DeclarationError, match="step 's': write must be a plain function"):
        Step("s", read=[1], write=write)


def test_two_steps_that_write_the_same_file_are_refused(tmp_path):
    def step(name):
        return Step(name, read=[1], write=text_file(tmp_path / "out"))

    with pytest.raises(DeclarationError, match="steps 'a' and 'b' write the same file"):
        Job("j", step("a"), step("b"))


def test_a_secret_in_an_address_is_never_shown():
    def of(token: Annotated[str, Secret]) -> Job:
        return Job("j", Step("s", read=[1], write=execute("sqlite:///t.db", f"INSERT INTO t VALUES (?, '{token}')")))

    job = Job.of(of, token="TOPSECRET")
    assert "TOPSECRET" not in job.steps[0].target_address
    assert "TOPSECRET" not in repr(job)
    assert Job.of(of, token="OTHER").definition_digest == job.definition_digest


def test_a_secret_in_a_name_is_refused_without_showing_it():
    def of(token: Annotated[str, Secret]) -> Job:
        return Job(f"job {token}", Step("s", read=[1], write=len))

    with pytest.raises(DeclarationError, match="a secret is part of a name") as caught:
        Job.of(of, token="TOPSECRET")
    assert "TOPSECRET" not in str(caught.value)


def test_a_path_identifies_the_file_however_it_is_written(tmp_path, monkeypatch):
    def of(source: Path) -> Job:
        return Job("j", Step("s", read=[1], write=len))

    monkeypatch.chdir(tmp_path)
    assert Job.of(of, source=Path("in.csv")).key == Job.of(of, source=tmp_path / "in.csv").key


def test_two_names_of_one_file_are_one_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DeclarationError, match="write the same file"):
        Job(
            "j",
            Step("a", read=[1], write=text_file(tmp_path / "out")),
            Step("b", read=[1], write=text_file(tmp_path / "link" / "out")),
        )
    assert text_file(tmp_path / "sub" / ".." / "out").address == text_file(tmp_path / "out").address


def test_a_job_function_does_not_give_parameters_of_its_own():
    def of(day: int) -> Job:
        return Job("j", Step("s", read=[1], write=len), parameters={"k": 1})

    with pytest.raises(DeclarationError, match="own parameters are the job's"):
        Job.of(of, day=1)


def test_a_secret_that_is_the_default_in_the_code_is_kept_out_of_texts_too():
    def of(token: Annotated[str, Secret] = "s3cret", other: Annotated[str | None, Secret] = None) -> Job:  # noqa: S107 - that is the point
        del token, other
        return Job("j", step("s"))

    assert Job.of(of).secrets == ("s3cret",)
    assert Job.of(of, token="given").secrets == ("given",)
