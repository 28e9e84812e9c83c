"""The places of the agent that change its journal, found in the source and seen at run time."""

import ast
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.journal.unit import Database

_AGENT = Path(__file__).parents[2] / "agent"
_CHANGING = {"unit", "write", "write_many"}


def sites() -> set[str]:
    """Every function outside `agent.journal` that opens a unit of work or changes what is kept."""
    changing = _changing_methods()
    outside = (path for path in _AGENT.rglob("*.py") if _AGENT / "journal" not in path.parents)
    return {
        f"{path.relative_to(_AGENT).with_suffix('')}:{name}"
        for path in outside
        for name, function in _functions(ast.parse(path.read_text("utf-8")))
        if any(_changes(node, changing) for node in _own_nodes(function))
    }


def _changing_methods() -> set[str]:
    """Names of the journal's methods that change something; those that call one of them, too."""
    methods = {
        node.name: {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
        for path in (_AGENT / "journal").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    changing = {"write", "write_many"}
    while found := {name for name, used in methods.items() if used & changing} - changing:
        changing |= found
    return changing - {"write", "write_many"}


def _functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.AST]]:
    """All functions with their qualified names, as a frame has them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield outer + node.name, node
            yield from _functions(node, f"{outer}{node.name}.<locals>.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{outer}{node.name}.")
        else:
            yield from _functions(node, outer)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(function):
        yield node
        if not isinstance(node, ast.FunctionDef):
            yield from _own_nodes(node)


def _changes(node: ast.AST, changing: set[str]) -> bool:
    """True for `….journal.unit`, `….journal.<subject>.<method>` and the same of an outbox's `_store`."""
    match node:
        case ast.Attribute(attr="unit", value=ast.Attribute(attr="journal" | "_journal" | "_store")):
            return True
        case ast.Attribute(attr=method, value=ast.Attribute(attr="_store")):
            return method in changing
        case ast.Attribute(attr=method, value=ast.Attribute(value=holder)):
            name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            return name in ("journal", "_journal") and method in changing
    return False


@contextmanager
def seen_sites(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The sites that come by while inside."""
    seen: set[str] = set()

    def noting(name: str) -> Any:
        original = getattr(Database, name)

        def noted(*arguments: Any, **options: Any) -> Any:
            seen.add(_caller())
            return original(*arguments, **options)

        return noted

    with monkeypatch.context() as patched:
        for name in _CHANGING:
            patched.setattr(Database, name, noting(name))
        yield seen


def _caller() -> str:
    """The nearest frame that is the agent's and not the journal's."""
    frame = inspect.currentframe()
    while frame:
        path = Path(frame.f_code.co_filename)
        if _AGENT in path.parents and _AGENT / "journal" not in path.parents:
            return f"{path.relative_to(_AGENT).with_suffix('')}:{frame.f_code.co_qualname}"
        assert frame.f_back
        frame = frame.f_back
    raise AssertionError("nobody called")
