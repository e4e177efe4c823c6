"""What a user declares: Job, a named graph of steps. Frozen, built without side effects, checked when built.

The one rule: whatever is wrong with a declaration is said here, before anything runs.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchwright.model.checkpoint import InstanceKey
from batchwright.model.codec import encode
from batchwright.model.errors import DeclarationError
from batchwright.model.execution import Origin
from batchwright.model.parameters import check_storable, sort_parameters
from batchwright.model.timeouts import check_seconds
from batchwright.step import MAX_NAME_CHARACTERS, Step, set_fields


@dataclass(frozen=True, eq=False, init=False, slots=True)
class Job:
    """A named graph of steps with its parameters.

    `parameters` say which work it is: the same job with the same parameters is the same instance. Raises
    DeclarationError for duplicate step names, unknown names in `after`, and circles. A job without parameters that
    could say which work it is (`identifiable` is False) begins anew each time it is run after it was finished. A run
    that lasts longer than `timeout_seconds` is stopped, to be gone on with, at the end of the chunk in work. With
    `on_failure="compensate"` a run that fails is rolled back at once: `compensate=` of its steps undoes their effects.
    `given` holds all parameters as they were given, secrets too: it is never shown or stored.
    """

    name: str
    steps: tuple[Step[Any, Any], ...]
    parameters: Mapping[str, Any]
    identifying: Mapping[str, Any]
    origin: Origin | None
    secrets: tuple[str, ...]
    secret_names: tuple[str, ...]
    identifiable: bool
    timeout_seconds: float | None
    on_failure: str | None
    given: Mapping[str, Any]

    def __init__(
        self,
        name: str,
        *steps: Step[Any, Any],
        parameters: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
        on_failure: Literal["compensate"] | None = None,
    ) -> None:
        """Check and keep the declaration; nothing is opened."""
        given = dict(parameters or {})
        set_fields(self, name=name, steps=steps, parameters=given, identifying=given, origin=None, secrets=())
        set_fields(self, secret_names=())
        set_fields(self, identifiable=bool(given), timeout_seconds=timeout_seconds, on_failure=on_failure, given=given)
        _check_job(self)

    @classmethod
    def of(cls, function: Callable[..., "Job"], /, **parameters: Any) -> "Job":
        """The job that `function` makes of these parameters, with its origin: it can be built again elsewhere.

        The function must be pure. Parameters equal to their default and those marked NonIdentifying or Secret do not
        identify the work; a Secret is never stored. Raises ParameterError if they do not fit the function.
        """
        known = sort_parameters(function, parameters)
        job = function(**parameters)
        if not isinstance(job, Job):
            raise DeclarationError(
                f"{function.__qualname__} must return a Job",
                f"it returned {type(job).__name__}",
                "end it with return Job(…)",
            )
        if job.parameters:
            wrong = f"{function.__qualname__}: a job function's own parameters are the job's"
            raise DeclarationError(wrong, "it returned a Job with parameters=", "make them parameters of the function")
        check_storable(job.name, known.kept)
        if any(secret in name for secret in known.secrets for name in (job.name, *(step.name for step in job.steps))):
            raise DeclarationError(f"{function.__qualname__}: a secret is part of a name", "", "name it otherwise")
        made = object.__new__(cls)
        steps = tuple(_keeping_secrets(step, known.secrets) for step in job.steps)
        set_fields(
            made, name=job.name, steps=steps, identifiable=known.identifiable, timeout_seconds=job.timeout_seconds
        )
        set_fields(made, on_failure=job.on_failure, given=dict(parameters), secret_names=known.secret_names)
        set_fields(made, parameters=known.kept, identifying=known.identifying, secrets=known.secrets)
        set_fields(made, origin=Origin(_source_path(function), function.__qualname__, made.definition_digest))
        return made

    @property
    def key(self) -> InstanceKey:
        """Which work this is."""
        return InstanceKey(
            self.name, hashlib.sha256(encode(dict(self.identifying), canonical=True).encode()).hexdigest()[:32]
        )

    @property
    def definition_digest(self) -> str:
        """A digest of step names, order and addresses."""
        described = [
            [step.name, step.source_address, step.target_address, list(before)]
            for step, before in zip(self.steps, self.predecessors().values(), strict=True)
        ]
        return hashlib.sha256(encode(described).encode()).hexdigest()[:16]

    def predecessors(self) -> dict[str, tuple[str, ...]]:
        """For each step, in listed order, the names of the steps that it follows."""
        before: dict[str, tuple[str, ...]] = {}
        previous: tuple[str, ...] = ()
        for step in self.steps:
            before[step.name] = previous if step.after is None else step.after
            previous = (step.name,)
        return before

    def __repr__(self) -> str:
        """Name, step names and parameters; never a secret."""
        names = ", ".join(step.name for step in self.steps)
        return f"Job({self.name!r}, {names}, parameters={dict(self.parameters)!r})"


def ordered_steps(job: Job) -> list[Step[Any, Any]]:
    """The steps, each after those it follows, otherwise as listed. Raises DeclarationError for a circle."""
    before = job.predecessors()
    waiting, ordered, done = list(job.steps), [], set[str]()
    while waiting:
        step = next((step for step in waiting if done.issuperset(before[step.name])), None)
        if step is None:
            raise DeclarationError(
                f"job '{job.name}': steps wait for each other in a circle",
                ", ".join(f"'{step.name}'" for step in waiting),
                "mend their after=",
            )
        waiting.remove(step)
        ordered.append(step)
        done.add(step.name)
    return ordered


def _keeping_secrets(step: Step[Any, Any], secrets: tuple[str, ...]) -> Step[Any, Any]:
    """The same step, with texts that its addresses must not show."""
    kept = copy(step)
    object.__setattr__(kept, "secrets", secrets)
    return kept


def _check_job(job: Job) -> None:
    if not isinstance(job.name, str) or not job.name.strip() or len(job.name) > MAX_NAME_CHARACTERS:
        raise DeclarationError("a job's name must be a text of 1 to 100 characters", f"got {job.name!r}")
    for step in job.steps:
        if not isinstance(step, Step):
            raise DeclarationError(f"job '{job.name}': only steps can be listed", f"got {step!r}")
    names = [step.name for step in job.steps]
    if not names:
        raise DeclarationError(f"job '{job.name}' has no steps", "", "list at least one Step")
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(
                f"job '{job.name}': step names must differ", f"'{name}' stands {names.count(name)} times", "rename one"
            )
    for step in job.steps:
        unknown = [name for name in step.after or () if name not in names]
        if unknown:
            raise DeclarationError(
                f"step '{step.name}': after names a step that is not there",
                f"got '{unknown[0]}'; the steps are {', '.join(names)}",
            )
    check_seconds(f"job '{job.name}': timeout_seconds", job.timeout_seconds)
    _check_targets(job)
    _check_on_failure(job)
    ordered_steps(job)
    check_storable(job.name, job.parameters)


def _check_targets(job: Job) -> None:
    written: dict[str, str] = {}
    for step in job.steps:
        target = getattr(step.write, "replaces_target", None)
        other = step.name if target is None else written.setdefault(target, step.name)
        if other != step.name:
            wrong = f"job '{job.name}': steps '{other}' and '{step.name}' write the same file"
            raise DeclarationError(wrong, f"each would replace the other's {step.target_address}", "name another file")


def _check_on_failure(job: Job) -> None:
    if job.on_failure not in (None, "compensate"):
        raise DeclarationError(f"job '{job.name}': on_failure must be 'compensate' or None", f"got {job.on_failure!r}")
    if job.on_failure and not any(step.compensate for step in job.steps):
        raise DeclarationError(
            f"job '{job.name}': on_failure='compensate' needs a step with compensate=", "no step has one", "give it one"
        )


def _source_path(function: Callable[..., Job]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return str(Path(code.co_filename).resolve()) if code is not None else ""


def one_step_job(step: Step[Any, Any]) -> Job:
    """The job that stands around a single step; it has the step's name."""
    return Job(step.name, step)
