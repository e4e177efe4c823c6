"""How a worker process gets at a step's function and policies: by reference, or out of the job, built again.

The one rule: what cannot be had there is refused here, before anything is recorded, with the mend. References are tried
first: a job is built again only where its function makes the processor, such as a lambda or a function inside it.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from batchwright.job import Job
from batchwright.model.errors import DeclarationError, OriginError
from batchwright.model.execution import Origin
from batchwright.model.policy import Retry, Skip
from batchwright.model.processor import function_address
from batchwright.origins import load_function
from batchwright.runners.process_messages import pack, pack_with_modules, unpack
from batchwright.step import Recipe, Step

Made = tuple[Callable[[Any], Any], Retry | None, Skip | None]

SCRIPT = "__mp_main__"
"""What a script is called in the processes that it starts, as in `multiprocessing`: what is guarded is not run."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module that cannot be imported by its name there: it is loaded from its file."""

    name: str
    path: str
    package: str | None


@dataclass(frozen=True, slots=True)
class ByReference:
    """Function and policies as a pickle, which names where they stand."""

    sources: tuple[Source, ...]
    pickled: bytes

    def __call__(self) -> Made:
        """Load what has to be, and look them up."""
        for source in self.sources:
            _load(source)
        made: Made = unpack(self.pickled)
        return made


@dataclass(frozen=True, slots=True)
class JobAgain:
    """A job that is built again; its parameters may be secrets. Its module is imported if it has a name, and no source.

    So the errors that it raises there are of the classes that they are of here.
    """

    origin: Origin
    parameters: Mapping[str, Any]
    module: str = ""
    source: Source | None = None

    def __call__(self) -> Job:
        """Build it. Raises OriginError if it is another one than it was."""
        if self.source is not None:
            function = attrgetter(self.origin.function)(_load(self.source))
        elif self.module:
            function = attrgetter(self.origin.function)(importlib.import_module(self.module))
        else:
            function = load_function(str(self.origin))
        job = Job.of(function, **self.parameters)
        if job.definition_digest != self.origin.digest:
            raise OriginError(
                f"{self.origin} makes another job in a worker process",
                "its steps or addresses differ from those of the run",
                "let it depend on its parameters only",
            )
        return job

    def __repr__(self) -> str:
        """Without the parameters, which may be secrets."""
        return f"JobAgain({self.origin})"


@dataclass(frozen=True, slots=True)
class OutOfJob:
    """Function and policies of a step of a job that is built again."""

    job: JobAgain
    step: str

    def __call__(self) -> Made:
        """Build the job. Raises OriginError if it is another one than it was."""
        step = next(step for step in self.job().steps if step.name == self.step)
        assert step.process is not None  # noqa: S101 - for the type checker: it is the step that it was
        return step.process, step.retry, step.skip


def recipe_for(job: Job, step: Step[Any, Any]) -> Recipe:
    """How a worker process gets at the step's function. Raises DeclarationError if it cannot."""
    script = _script()
    try:
        pickled, modules = pack_with_modules((step.process, step.retry, step.skip))
    except Exception as error:  # noqa: BLE001 - anything can be wrong with a user's object
        return _out_of_job(job, step, error)
    if "__main__" in modules and script is None:
        raise _unreachable(step, "it stands in a session, which worker processes cannot load")
    if script is not None and "__main__" in modules:
        _require_guard(step, script.path)
    sources = tuple(source for name in sorted(modules) if (source := _source_of(name, script)) is not None)
    return ByReference(sources, pickled)


def job_again(job: Job, step: Step[Any, Any]) -> JobAgain:
    """How processes that read and write get at a step's job. Raises DeclarationError if they cannot."""
    wrong = f"step '{step.name}': processes cannot build job '{job.name}' again, to work on its partitions"
    mend = "build it with Job.of(function, …), by a function at the top of a file, or write workers= instead of runner="
    origin = job.origin
    if origin is None or not origin.path:
        raise DeclarationError(wrong, "it was built by hand", mend)
    if not _is_reachable(origin):
        raise DeclarationError(wrong, f"its function is {origin.function}", mend)
    try:
        pack(job.given)
    except Exception as unpicklable:
        raise DeclarationError(wrong, f"a parameter cannot be sent: {unpicklable}", mend) from unpicklable
    return _job_again(job, origin, step)


def _out_of_job(job: Job, step: Step[Any, Any], error: Exception) -> OutOfJob:
    origin = job.origin
    if origin is None or not _is_reachable(origin):
        raise _unreachable(step, f"{type(error).__name__}: {error}")
    try:
        pack(job.given)
    except Exception as unpicklable:
        raise _unreachable(step, f"a parameter of the job cannot be sent; {unpicklable}") from unpicklable
    return OutOfJob(_job_again(job, origin, step), step.name)


def _is_reachable(origin: Origin) -> bool:
    return bool(origin.path) and "<locals>" not in origin.function and Path(origin.path).is_file()


def _job_again(job: Job, origin: Origin, step: Step[Any, Any]) -> JobAgain:
    script = _script()
    started = script if script is not None and script.path == origin.path else None
    if started is not None:
        _require_guard(step, started.path)
        return JobAgain(origin, job.given, source=_source_of("__main__", started))
    name = next((name for name in list(sys.modules) if _stands_in(name, Path(origin.path))), "")
    return JobAgain(origin, job.given, name, _source_of(name, script) if name else None)


def _stands_in(name: str, path: Path) -> bool:
    """Whether the module is this file's."""
    found = getattr(sys.modules.get(name), "__file__", None)
    if name in ("__main__", SCRIPT) or not found:
        return False
    return Path(found).name == path.name and Path(found).resolve() == path


def _unreachable(step: Step[Any, Any], found: str) -> DeclarationError:
    return DeclarationError(
        f"step '{step.name}': worker processes cannot get at {function_address(step.process)}",
        found,
        "define it at the top of a module, or build the job with Job.of(function, …), or use Threads",
    )


def _require_guard(step: Step[Any, Any], path: str) -> None:
    if "__main__" not in Path(path).read_text(encoding="utf-8", errors="replace"):
        raise DeclarationError(
            f"step '{step.name}': worker processes load {path}, and would run it again",
            "nothing in it keeps its calls from being made there too",
            'put them below if __name__ == "__main__":',
        )


def _script() -> Source | None:
    """The script that was started, if this is one."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if main is None or path is None or not Path(path).is_file():
        return None
    return Source("__main__", str(Path(path).resolve()), main.__package__)


def _source_of(name: str, script: Source | None) -> Source | None:
    """Where to load a module from that cannot be imported by its name in another process; None: it can."""
    if name == "__main__":
        # What goes back out of it calls itself by the name that it has there.
        sys.modules.setdefault(SCRIPT, sys.modules["__main__"])
        return script
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None)
    if module is None or path is None or name.partition(".")[0] in sys.stdlib_module_names:
        return None
    return None if path in _importable(name) else Source(name, path, module.__package__)


def _importable(name: str) -> Iterator[str]:
    """The file that the path of imports leads to."""
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    if parent and path is None:
        return
    found = PathFinder.find_spec(name, path)
    if found is not None and found.origin is not None:
        yield found.origin


def _load(source: Source) -> ModuleType:
    name = SCRIPT if source.name == "__main__" else source.name
    if name in sys.modules:
        return sys.modules[name]
    if source.package:
        importlib.import_module(source.package)
    spec = importlib.util.spec_from_file_location(name, source.path)
    if spec is None or spec.loader is None:
        raise OriginError(f"{source.path} cannot be loaded", "it is not a Python file", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    module.__package__ = source.package
    sys.modules[name] = module
    if source.name == "__main__":
        sys.modules["__main__"] = module
    spec.loader.exec_module(module)
    return module
