"""Where a job comes from: load its function from a file, and build it again from what the ledger stored."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_type_hints

from batchwright.job import Job
from batchwright.model.errors import BatchwrightError, NotReplayableError, OriginError
from batchwright.model.execution import JobExecution
from batchwright.model.parameters import restore_parameters

_ALIKE = 0.5


def load_function(spec: str) -> Callable[..., Job]:
    """The job function that `path/to/file.py:function` names; without a name, the only one that returns a Job.

    The file is run as a module of its own, with its folder on the import path. Raises OriginError.
    """
    path, _, name = spec.partition(":") if ".py:" in spec else (spec, "", "")
    file = Path(path)
    if not file.is_file():
        from difflib import get_close_matches  # slow to load

        near = get_close_matches(file.name, [found.name for found in file.parent.glob("*.py")], 1)
        raise OriginError(
            f"there is no file {path}",
            f"looked in {file.absolute().parent}",
            f"did you mean {file.parent / near[0]}?" if near else "write path/to/file.py:function",
        )
    module = _run_file(file)
    functions = {name: member for name, member in vars(module).items() if _is_job_function(member, module)}
    if not name:
        if len(functions) == 1:
            return cast("Callable[..., Job]", next(iter(functions.values())))
        raise _not_one(path, functions, _functions_of(module))
    function: Any = getattr(module, name, None)
    if function is None:
        known = list(functions) or _functions_of(module)
        from difflib import get_close_matches  # slow to load

        near = get_close_matches(name, [*functions, *_functions_of(module)], 1, _ALIKE)
        raise OriginError(
            f"there is no function '{name}' in {path}",
            f"its {'job functions' if functions else 'functions'} are {', '.join(known) or 'none'}",
            f"did you mean {path}:{near[0]}?" if near else "",
        )
    if not callable(function):
        raise OriginError(f"'{name}' in {path} is not a function", f"it is a {type(function).__name__}")
    return cast("Callable[..., Job]", function)


def rebuild(execution: JobExecution) -> Job:
    """The job of an execution, from its origin and stored parameters.

    Raises NotReplayableError for a job that was built by hand, and OriginError if its file is gone.
    """
    if execution.origin is not None and execution.origin.is_script:
        raise NotReplayableError(
            f"run {execution.id} was a loop, which is no job that could be built again",
            f"its body stands in {execution.origin}",
            "mend its failures with a loop of their own, or begin it anew: resumable(…, again=True, yes=True)",
        )
    if execution.origin is None or not execution.origin.path:
        raise NotReplayableError(
            f"run {execution.id} has no job function to build it from again",
            "it was started with run(Job(…)) or run(Step(…))",
            f"in Python: batchwright.replay({execution.id}, job=…)",
        )
    function = load_function(str(execution.origin))
    return Job.of(function, **restore_parameters(function, execution.parameters))


def _run_file(file: Path) -> ModuleType:
    path = file.resolve()
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    if loaded is not None or name in sys.stdlib_module_names:
        # A job file may be called csv.py: it must not take another module's place.
        name = f"job_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise OriginError(f"{file} cannot be loaded", "it is not a Python file", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except (BatchwrightError, KeyboardInterrupt):
        del sys.modules[name]
        raise
    except BaseException as error:
        # A file that calls sys.exit is no job file either.
        del sys.modules[name]
        raise OriginError(f"{file} cannot be loaded", _described(error, path), "mend it") from error
    return module


def _described(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):  # its own text has file and line in it already, not always this file's
        elsewhere = "" if error.filename in (None, str(path)) else f" of {error.filename}"
        return f"{type(error).__name__}: {error.msg} (line {error.lineno}{elsewhere})"
    return f"{type(error).__name__}: {error}{_place_in(error, path)}"


def _place_in(error: BaseException, path: Path) -> str:
    line, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f" (line {trace.tb_lineno})"
        trace = trace.tb_next
    return line


def _not_one(path: str, functions: Iterable[str], others: Sequence[str]) -> OriginError:
    found = list(functions)
    if found:
        return OriginError(
            f"{path} does not hold exactly one job function", f"found {', '.join(found)}", f"write {path}:function"
        )
    if not others:
        return OriginError(f"{path} holds no function", "", "write one that returns a Job: def load() -> Job: …")
    mend = f"write {path}:{others[0]}, or annotate it -> Job"
    return OriginError(f"no function of {path} is annotated -> Job", f"its functions are {', '.join(others)}", mend)


def _functions_of(module: ModuleType) -> list[str]:
    own = (found for found in vars(module).values() if inspect.isfunction(found))
    return [one.__name__ for one in own if one.__module__ == module.__name__ and one.__name__.isidentifier()]


def _is_job_function(member: Any, module: ModuleType) -> bool:
    if not inspect.isfunction(member) or member.__module__ != module.__name__:
        return False
    try:
        return get_type_hints(member).get("return") is Job
    except (NameError, TypeError):
        return False
