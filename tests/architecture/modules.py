"""The source tree as parsed modules, for the tests beside this file. The one rule: nothing is imported, only read."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One file: its dotted name, text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    def at(self, node: ast.stmt) -> str:
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"


@dataclass(frozen=True)
class Definition:
    """A function or method, the class it stands in, and whether it is nested in another function."""

    module: Module
    node: Function
    owner: ast.ClassDef | None
    nested: bool

    @property
    def where(self) -> str:
        owner = f"{self.owner.name}." if self.owner else ""
        return f"{self.module.at(self.node)} {owner}{self.node.name}"

    @property
    def public(self) -> bool:
        names = [self.node.name, self.owner.name if self.owner else ""]
        return not self.nested and not any(name.startswith("_") and not name.endswith("__") for name in names)

    @property
    def stub(self) -> bool:
        """Whether there is nothing in it but a docstring and `...`: a port's method, an overload."""
        body = self.node.body[1:] if ast.get_docstring(self.node) is not None else self.node.body
        return all(isinstance(part, ast.Expr) and _is_dots(part) for part in body)

    @property
    def lines(self) -> int:
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    @property
    def parameters(self) -> list[ast.arg]:
        given = self.node.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        stars = [star for star in (given.vararg, given.kwarg) if star]
        bound = self.owner is not None and not any(_name(mark) == "staticmethod" for mark in self.node.decorator_list)
        return [*(named[1:] if bound else named), *stars]

    def marked(self, *decorators: str) -> bool:
        return any(_name(decorator) in decorators for decorator in self.node.decorator_list)


@cache
def source_modules() -> tuple[Module, ...]:
    """Every module of the package."""
    return tuple(_parse(path) for path in sorted((SOURCE / "batchwright").rglob("*.py")))


def python_files() -> list[Path]:
    """Every Python file of the repository."""
    folders = ("src", "tests", "examples", "benchmarks", "tools")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def definitions(module: Module) -> Iterator[Definition]:
    """Every function and method of a module."""
    yield from _walk(module, module.tree, None, nested=False)


def imports(module: Module) -> Iterator[tuple[str, ast.stmt]]:
    """Every name imported anywhere in a module, with its statement."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "", node)
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def _parse(path: Path) -> Module:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text()
    return Module(name, path, text, ast.parse(text))


def _walk(module: Module, parent: ast.AST, owner: ast.ClassDef | None, *, nested: bool) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(parent):
        if isinstance(child, Function):
            yield Definition(module, child, owner, nested)
            yield from _walk(module, child, None, nested=True)
        elif isinstance(child, ast.ClassDef):
            yield from _walk(module, child, child, nested=nested)
        else:
            yield from _walk(module, child, owner, nested=nested)


def _is_dots(part: ast.Expr) -> bool:
    return isinstance(part.value, ast.Constant) and part.value.value is ...


def _name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
