"""The house rules of docs/architecture.md as functions of a module: each yields complaints."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from tests.house.source import Module

FILE_CEILING = 400
FUNCTION_CEILING = 60

BELOW = {
    "ir": frozenset[str](),
    "kernels": frozenset({"ir"}),
    "hardware": frozenset({"ir"}),
    "passes": frozenset({"ir", "kernels", "hardware"}),
    "runtime": frozenset({"ir", "kernels", "hardware"}),
    "backends": frozenset({"ir", "kernels", "hardware", "passes", "runtime"}),
    "demo": frozenset[str](),
    "__main__": frozenset({"compiler"}),
    "api": frozenset({"ir", "backends", "runtime", "compiler"}),
    "compiler": frozenset({"ir", "kernels", "hardware", "passes", "runtime", "backends", "demo"}),
    "testing": frozenset({"", "ir", "kernels", "hardware", "passes", "runtime", "backends", "compiler"}),
}
"""Room -> the rooms that it may import."""

HOMES = {
    "onnx": ("nmc.compiler.frontends.onnx", "nmc.runtime.oracle"),
    "onnxruntime": ("nmc.compiler.frontends.onnx", "nmc.runtime.oracle"),
    "numba": ("nmc.kernels",),
    "llvmlite": ("nmc.kernels",),
    "optuna": ("nmc.compiler.explore",),
    "pymetis": ("nmc.passes.partition",),
    "mtkahypar": ("nmc.passes.partition",),
    "pyswarms": ("nmc.passes.place",),
    "typer": ("nmc.compiler.cli",),
    "rich": ("nmc.compiler.cli",),
    "hypothesis": ("nmc.testing",),
    "pytest": ("nmc.testing",),
    "lava": (),
    "torch": (),
}
"""Third-party package -> the modules (with what is below them) that may import it."""

EVERYWHERE = frozenset({"numpy", "scipy", "networkx"})
BANNED_MODULES = frozenset({"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"})
BANNED_CALLS = frozenset({"eval", "exec", "compile", "__import__"})
BANNED_NAMES = frozenset({"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"})


def inside(name: str, home: str) -> bool:
    """Whether a dotted name is ``home`` or below it."""
    return name == home or name.startswith(home + ".")


def own_imports(module: Module) -> Iterator[str]:
    """Imports of our own rooms against the arrows."""
    for line, name in module.imports():
        parts = name.split(".")
        if parts[0] != "nmc":
            continue
        room = parts[1] if len(parts) > 1 else ""
        if room == "__version__":
            continue
        if module.room and room != module.room and room not in BELOW[module.room]:
            yield f"{module.path}:{line} imports {name}: {module.room} must not know {room or 'nmc'}"
        concrete = len(parts) > 2 and parts[1] == "backends" and parts[2] != "api"
        if module.room == "compiler" and concrete:
            yield f"{module.path}:{line} imports {name}: backends come by entry point only"


def foreign_imports(module: Module) -> Iterator[str]:
    """Third-party packages outside their home."""
    for line, name in module.imports():
        package = name.split(".")[0]
        if package == "nmc" or package in sys.stdlib_module_names:
            continue
        if package in EVERYWHERE:
            if module.room == "ir" and package != "numpy":
                yield f"{module.path}:{line} imports {package}: ir knows numpy only"
            continue
        homes = HOMES.get(package, ())
        if not any(inside(module.name, home) for home in homes):
            yield f"{module.path}:{line} imports {package}: allowed in {', '.join(homes) or 'no module'}"


def ceilings(module: Module) -> Iterator[str]:
    """Files and functions that are too long."""
    lines = module.text.count("\n") + 1
    if lines > FILE_CEILING:
        yield f"{module.path} has {lines} lines, ceiling {FILE_CEILING}"
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        decorators = [ast.unparse(d) for d in node.decorator_list]
        compiled = any("jit" in text or text.startswith("compiled(") for text in decorators)
        if length > FUNCTION_CEILING and not (module.room == "kernels" and compiled):
            yield f"{module.path}:{node.lineno} {node.name} has {length} lines, ceiling {FUNCTION_CEILING}"


def bans(module: Module) -> Iterator[str]:
    """assert, print outside the command line, pickles, code from strings, shells, vague names."""
    if module.path.rsplit("/", 1)[-1].removesuffix(".py") in BANNED_NAMES:
        yield f"{module.path}: the name says nothing"
    for line, name in module.imports():
        if name.split(".")[0] in BANNED_MODULES:
            yield f"{module.path}:{line} imports {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield f"{module.path}:{node.lineno} assert"
        elif isinstance(node, ast.Call):
            yield from (f"{module.path}:{node.lineno} {text}" for text in banned_call(module, node))


def banned_call(module: Module, node: ast.Call) -> Iterator[str]:
    """What is wrong with one call."""
    name = ast.unparse(node.func)
    if name in BANNED_CALLS:
        yield f"calls {name}"
    if name in ("print", "sys.stdout.write", "sys.stderr.write") and not inside(module.name, "nmc.compiler.cli"):
        yield f"{name} outside the command line"
    if name in ("os.system", "os.popen"):
        yield f"calls {name}"
    for keyword in node.keywords:
        true = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        if keyword.arg in ("allow_pickle", "shell") and true:
            yield f"{keyword.arg}={ast.unparse(keyword.value)}"
    if name in ("np.load", "numpy.load") and not any(k.arg == "allow_pickle" for k in node.keywords):
        yield "np.load without allow_pickle=False said"
