"""Which diagnostic slugs the package uses, by syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache

from tests.house.source import Module


def slug_positions(modules: tuple[Module, ...]) -> Mapping[str, int]:
    """Callable name -> position of its ``slug`` argument (without ``self`` or ``cls``).

    Every function with a parameter of that name and every dataclass with such a field counts,
    so that small wrappers around `Diagnostic` are seen too.
    """
    found: dict[str, int] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
                if names[:1] in (["self"], ["cls"]):
                    names = names[1:]
                if "slug" in names:
                    found[node.name] = names.index("slug")
            elif isinstance(node, ast.ClassDef):
                fields = [
                    n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
                ]
                if "slug" in fields:
                    found[node.name] = fields.index("slug")
    return found


def literals(node: ast.expr) -> Iterator[str]:
    """The strings that an expression may be: a literal, or either side of a condition."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


@cache
def used_slugs(modules: tuple[Module, ...]) -> Mapping[str, str]:
    """Slug -> one place that uses it, as ``path:line``."""
    positions = slug_positions(modules)
    found: dict[str, str] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in positions:
                continue
            position = positions[name]
            given = [k.value for k in node.keywords if k.arg == "slug"]
            if len(node.args) > position:
                given.append(node.args[position])
            for slug in (text for value in given for text in literals(value)):
                found.setdefault(slug, f"{module.path}:{node.lineno}")
    return found
