"""Who imports whom, what a fresh interpreter loads, and that a breach would be seen."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.architecture.modules import ROOT, SOURCE, Module, imports, source_modules

THIRD_PARTY = {
    "click": ("batchwright.cli",),
    "rich": ("batchwright.cli", "batchwright.observers.progress"),
    "psycopg": ("batchwright.databases.postgres",),
    "psutil": ("batchwright.engine", "batchwright.observers.progress"),
}

SLOW_TO_LOAD = {"asyncio", "multiprocessing", "concurrent.futures", "ssl", "sqlite3"}

LOADED = "import sys; before = set(sys.modules); import {name}; print(*sorted(set(sys.modules) - before))"

MODULES = pytest.mark.parametrize("module", source_modules(), ids=lambda module: module.name)


@MODULES
def test_third_party_packages_are_imported_by_the_modules_named_for_them(module: Module):
    strangers = [
        f"{module.at(node)} {name}"
        for name, node in imports(module)
        if name.split(".")[0] not in {*sys.stdlib_module_names, "batchwright"}
        if not module.name.startswith(THIRD_PARTY.get(name.split(".")[0], ()) or "-")
    ]
    assert not strangers, "\n".join(strangers)


def test_no_modules_import_each_other_in_a_circle():
    edges = {module.name: imported_modules(module) for module in source_modules()}
    circle = find_circle(edges)
    assert circle is None, " → ".join(circle)


def test_a_circle_would_be_found():
    assert find_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_the_layers_hold():
    found = lint_imports(ROOT)
    assert found.returncode == 0, found.stdout


def test_an_import_upwards_would_be_found(tmp_path: Path):
    shutil.copytree(SOURCE, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "src" / "batchwright" / "model" / "block.py"
    planted.write_text(planted.read_text() + "\nfrom batchwright import job\n")
    found = lint_imports(tmp_path)
    assert found.returncode == 1
    assert "batchwright.model is not allowed to import batchwright.job" in found.stdout


@pytest.mark.parametrize(
    "name",
    [
        "batchwright",
        "batchwright.readers.csv_files",
        "batchwright.readers.json_lines",
        "batchwright.writers.csv_files",
        "batchwright.writers.json_lines",
    ],
)
def test_a_fresh_interpreter_loads_the_standard_library_only_and_nothing_slow(name: str):
    loaded = modules_loaded_by(name)
    roots = {module.split(".")[0] for module in loaded}
    assert roots - {*sys.stdlib_module_names, "batchwright"} == set()
    assert loaded & SLOW_TO_LOAD == set()


def test_a_public_name_loads_no_more_than_it_takes():
    ours = {name for name in modules_loaded_by("batchwright") if name.startswith("batchwright")}
    assert ours == {"batchwright"}
    loaded = modules_loaded_by("batchwright, batchwright.launch")
    assert not loaded & {"batchwright.engine.replay_job", "batchwright.loops", "importlib.metadata", "difflib"}


def test_every_public_name_is_there_though_modules_are_called_alike():
    told = "import batchwright.loops, batchwright as b; print(*(type(getattr(b, name)).__name__ for name in b.__all__))"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert "module" not in found.stdout.split()


def test_the_command_line_loads_no_rich_before_it_is_needed():
    loaded = modules_loaded_by("batchwright.cli")
    assert "click" in loaded
    assert loaded & {"rich", *SLOW_TO_LOAD} == set()


def modules_loaded_by(name: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOADED.format(name=name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    environment = {"PYTHONPATH": str(folder / "src"), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, env=environment
    )


def imported_modules(module: Module) -> set[str]:
    """The package's own modules that this one imports when loaded or when called, not those for annotations only."""
    known = {other.name for other in source_modules()} - {module.name}
    guarded = [
        node for node in ast.walk(module.tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    ]
    typing_only = {id(inner) for node in guarded for inner in ast.walk(node)}
    return {name for name, node in imports(module) if id(node) not in typing_only and name in known}


def find_circle(edges: dict[str, set[str]]) -> list[str] | None:
    """The first circle found, from its first module back to itself."""
    done: set[str] = set()
    for start in sorted(edges):
        circle = _descend(start, edges, [], done)
        if circle:
            return circle
    return None


def _descend(name: str, edges: dict[str, set[str]], path: list[str], done: set[str]) -> list[str] | None:
    if name in path:
        return [*path[path.index(name) :], name]
    if name not in done:
        done.add(name)
        for target in sorted(edges.get(name, ())):
            circle = _descend(target, edges, [*path, name], done)
            if circle:
                return circle
    return None
