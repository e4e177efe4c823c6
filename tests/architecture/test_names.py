"""Names, docstrings, annotations and words that have no place here."""

import ast
import re

import pytest
from tests.architecture.modules import Module, definitions, imports, python_files, source_modules

FORBIDDEN_NAMES = {"base", "utils", "util", "common", "helpers", "helper", "manager", "misc", "core", "types"}

FORBIDDEN_IMPORTS = {
    "abc": "a Protocol says what a port is",
    "pickle": "what is stored is JSON",
    "marshal": "what is stored is JSON",
    "shelve": "what is stored is JSON",
}

ALLOWED_IMPORTS = {"batchwright.runners.process_messages": {"pickle"}}
"""Pickles go to processes of our own through sockets that nobody else has; none is stored."""

MODULES = pytest.mark.parametrize("module", source_modules(), ids=lambda module: module.name)


def test_no_module_has_a_name_that_says_nothing():
    names = {part for module in source_modules() for part in module.name.split(".")}
    assert not names & FORBIDDEN_NAMES


def test_all_error_classes_stand_in_one_file():
    elsewhere = [
        f"{module.at(node)} {node.name}"
        for module in source_modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and is_error(node) and module.name != "batchwright.model.errors"
    ]
    assert not elsewhere, "\n".join(elsewhere)


def test_the_tree_of_errors_names_every_error():
    module = next(module for module in source_modules() if module.name == "batchwright.model.errors")
    drawn = ast.get_docstring(module.tree) or ""
    classes = [node.name for node in module.tree.body if isinstance(node, ast.ClassDef)]
    assert [name for name in classes if name not in drawn] == []


@MODULES
def test_every_module_says_what_it_is_for(module: Module):
    assert ast.get_docstring(module.tree), module.path


@MODULES
def test_every_public_name_is_documented(module: Module):
    classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    silent = [module.at(node) for node in classes if not node.name.startswith("_") and not ast.get_docstring(node)]
    silent += [
        made.where
        for made in definitions(module)
        if made.public and not made.marked("overload") and not is_magic(made.node.name)
        if not ast.get_docstring(made.node)
    ]
    assert not silent, "\n".join(silent)


@MODULES
def test_every_parameter_and_result_is_annotated(module: Module):
    bare = [
        made.where
        for made in definitions(module)
        if made.node.returns is None or any(parameter.annotation is None for parameter in made.parameters)
    ]
    assert not bare, "\n".join(bare)


@MODULES
def test_nothing_is_imported_that_the_house_does_without(module: Module):
    found = [
        f"{module.at(node)} {name}: {FORBIDDEN_IMPORTS[name]}"
        for name, node in imports(module)
        if name in FORBIDDEN_IMPORTS and name not in ALLOWED_IMPORTS.get(module.name, ())
    ]
    assert not found, "\n".join(found)


@MODULES
def test_no_function_changes_a_global(module: Module):
    found = [module.at(node) for node in ast.walk(module.tree) if isinstance(node, ast.Global)]
    assert not found, "\n".join(found)


def test_every_exception_to_a_check_says_why():
    silent = [
        f"{path.name}:{number}: {line.strip()}"
        for path in python_files()
        if path.name != "test_names.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if unexplained(line)
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize(
    ("line", "silent"),
    [
        ("x = f()  # noqa: S608", True),
        ("x = f()  # noqa", True),
        ("x = f()  # noqa: S608 - the names are quoted", False),
        ("x = f()  # noqa: S608, PLR0913 - the names are quoted", False),
        ("x = f()  # type: ignore[arg-type]", True),
        ("x = f()  # type: ignore[arg-type]  # checked when built", False),
        ("x = f()", False),
    ],
)
def test_an_exception_without_a_reason_is_found(line: str, silent: object):
    assert unexplained(line) is silent


def unexplained(line: str) -> bool:
    return bool(re.search(r"# (noqa(: [A-Z0-9, ]+)?|type: ignore(\[[a-z, -]+\])?)\s*$", line))


def is_error(node: ast.ClassDef) -> bool:
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return node.name.endswith("Error") or any(base.endswith(("Error", "Exception")) for base in bases)


def is_magic(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name != "__init__"
