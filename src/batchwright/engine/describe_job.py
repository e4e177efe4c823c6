"""What a job's declaration says, as plain data for the ledger, and how two of them differ, in words.

The one rule: what may change freely between two runs is not in it: chunk_size, retries, limits, time-outs, page sizes.
The code of the user's functions is in it by the digest of their file; that it differs is a warning, never a refusal.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from batchwright.abilities import Describes
from batchwright.job import Job
from batchwright.model.errors import ACCEPT_INPUT, ADOPT
from batchwright.model.secrets import scrub
from batchwright.model.version import VERSION
from batchwright.step import BoundStep

Described = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a declaration differs from an earlier one. `way` is the choice that goes on all the same; empty: a warning.

    `steps` is set where other steps are declared, by adding, removing or renaming.
    """

    text: str
    way: str = ""
    steps: bool = False


def describe_job(job: Job, bound: Mapping[str, BoundStep]) -> dict[str, Any]:
    """The steps of a job in listed order, with the version of batchwright that reads it."""
    before = job.predecessors()
    steps = [_describe_step(bound[step.name], before[step.name]) for step in job.steps]
    return {"version": VERSION, "steps": steps}


def differences(then: Described, now: Described) -> list[Difference]:
    """How a declaration differs from an earlier one; none from one of a version that kept none."""
    if not then.get("steps"):
        return []
    old = {step["name"]: step for step in then["steps"]}
    new = {step["name"]: step for step in now["steps"]}
    changed = list(_other_steps(old, new)) or list(_other_order(old, new))
    for name in (name for name in new if name in old):
        changed.extend(_other_options(old[name], new[name]))
    return changed


def other_version(then: Described, now: Described) -> list[Difference]:
    """That work was begun by another version of batchwright: a warning. Nothing where none was kept."""
    was, is_now = then.get("version"), now["version"]
    return [Difference(f"batchwright was {was}, now it is {is_now}")] if was and was != is_now else []


def _describe_step(bound: BoundStep, before: Sequence[str]) -> dict[str, Any]:
    step = bound.step
    return {
        "name": step.name,
        "after": list(before),
        "reads": step.source_address,
        "writes": step.target_address,
        "source": _options(bound.reader, step.secrets),
        "target": _options(bound.writer, step.secrets),
        "code": _code_digest(step.process),
    }


def _options(adapter: object, secrets: Sequence[str]) -> dict[str, str]:
    told = adapter.options if isinstance(adapter, Describes) else {}
    return {name: scrub(text, secrets) for name, text in told.items()}


def _code_digest(function: Callable[..., Any] | None) -> str:
    """A digest of the file that a function stands in; empty where there is none."""
    while isinstance(function, partial):
        function = function.func
    try:
        path = None if function is None else inspect.getsourcefile(inspect.unwrap(function))
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path else ""
    except (OSError, TypeError, ValueError):
        return ""


def _other_steps(old: Mapping[str, Described], new: Mapping[str, Described]) -> Iterator[Difference]:
    gone, added = [name for name in old if name not in new], [name for name in new if name not in old]
    for name in list(gone):
        places = (old[name]["reads"], old[name]["writes"])
        same = next((other for other in added if (new[other]["reads"], new[other]["writes"]) == places), None)
        if same is not None:
            yield Difference(f"step '{name}' is now called '{same}'", ADOPT, steps=True)
            gone.remove(name)
            added.remove(same)
    yield from (Difference(f"step '{name}' is gone", ADOPT, steps=True) for name in gone)
    yield from (Difference(f"step '{name}' is new", ADOPT, steps=True) for name in added)


def _other_order(old: Mapping[str, Described], new: Mapping[str, Described]) -> Iterator[Difference]:
    for name, step in new.items():
        then, now = (", ".join(found["after"]) or "nothing" for found in (old[name], step))
        if then != now:
            yield Difference(f"step '{name}' followed {then}, now it follows {now}", ADOPT)


def _other_options(old: Described, new: Described) -> Iterator[Difference]:
    for side, way in (("source", ACCEPT_INPUT), ("target", ADOPT)):
        then, now = old[side], new[side]
        # An adapter that says nothing about itself is not compared.
        for option in sorted({*then, *now} if then and now else ()):
            was, is_now = then.get(option, "not set"), now.get(option, "not set")
            if was != is_now:
                yield Difference(f"step '{new['name']}': {option} was {was}, now it is {is_now}", way)
    if old["code"] and new["code"] and old["code"] != new["code"]:
        yield Difference(f"step '{new['name']}': the file of its function has changed since the work was begun")
