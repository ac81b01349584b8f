"""The house rules hold, and the rules themselves catch what they are for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.house.rules import BELOW, bans, ceilings, foreign_imports, own_imports
from tests.house.slugs import used_slugs
from tests.house.source import ROOT, Module, modules

Rule = Callable[[Module], Iterator[str]]


@pytest.mark.parametrize("rule", [own_imports, foreign_imports, ceilings, bans], ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Rule) -> None:
    complaints = [text for module in modules() for text in rule(module)]
    assert not complaints, "\n" + "\n".join(complaints)


def test_every_room_has_its_arrows() -> None:
    rooms = {module.room for module in modules() if module.name.count(".") >= 1}
    assert rooms <= set(BELOW), f"rooms without arrows: {rooms - set(BELOW)}"


def test_arrows_have_no_circle() -> None:
    for room, below in BELOW.items():
        assert all(room not in BELOW.get(other, ()) for other in below), room


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (own_imports, "nmc.ir.network", "from nmc.kernels import sums"),
        (own_imports, "nmc.ir.network", "def f():\n    from ..passes import base"),
        (own_imports, "nmc.runtime.session", "import nmc.passes.base"),
        (own_imports, "nmc.compiler.driver", "from nmc.backends.loihi import backend"),
        (own_imports, "nmc.passes.base", "from nmc import compiler"),
        (foreign_imports, "nmc.passes.partition.graph", "import numba"),
        (foreign_imports, "nmc.runtime.session", "import onnxruntime as ort"),
        (foreign_imports, "nmc.ir.network", "import scipy.sparse"),
        (foreign_imports, "nmc.backends.loihi.device", "import lava"),
        (foreign_imports, "nmc.runtime.report", "import pandas"),
        (ceilings, "nmc.runtime.session", "x = 1\n" * 401),
        (ceilings, "nmc.passes.base", "def f():\n" + "    x = 1\n" * 61),
        (bans, "nmc.ir.network", "assert True"),
        (bans, "nmc.runtime.session", "print(1)"),
        (bans, "nmc.runtime.session", "import pickle"),
        (bans, "nmc.runtime.session", "exec('1')"),
        (bans, "nmc.runtime.session", "np.load(f, allow_pickle=True)"),
        (bans, "nmc.runtime.session", "np.load(f)"),
        (bans, "nmc.runtime.session", "subprocess.run('x', shell=True)"),
        (bans, "nmc.runtime.utils", "x = 1"),
    ],
)
def test_rule_catches(rule: Rule, name: str, text: str) -> None:
    assert list(rule(Module(name, name.replace(".", "/") + ".py", text)))


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (own_imports, "nmc.passes.base", "from nmc.ir.network import Network"),
        (own_imports, "nmc.compiler.driver", "from nmc.backends.api import Options"),
        (foreign_imports, "nmc.kernels.sums", "import numba"),
        (ceilings, "nmc.kernels.sums", "@njit(cache=True)\ndef f():\n" + "    x = 1\n" * 61),
        (bans, "nmc.compiler.cli.main", "print(1)"),
        (bans, "nmc.runtime.session", "np.load(f, allow_pickle=False)"),
    ],
)
def test_rule_allows(rule: Rule, name: str, text: str) -> None:
    assert not list(rule(Module(name, name.replace(".", "/") + ".py", text)))


def test_package_files_only_say_what_they_are() -> None:
    """``__init__`` files below ``nmc`` do no work: a docstring, imports and names at the most."""
    light = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.If)
    for module in modules():
        if not module.path.endswith("__init__.py"):
            continue
        for node in module.tree.body:
            string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert string or isinstance(node, light), f"{module.path}:{node.lineno}"


def test_help_loads_nothing_heavy() -> None:
    """``nmc --help`` stays quick because these are imported by the commands that need them."""
    heavy = {"numpy", "scipy", "numba", "onnx", "onnxruntime", "networkx", "pymetis", "pyswarms", "matplotlib"}
    code = (
        "import sys; from nmc.compiler.cli.main import run\n"
        "status = run(['--help'])\n"
        f"sys.stderr.write(','.join(sorted({heavy!r} & set(sys.modules)))); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "compile" in done.stdout


def test_slugs_are_found() -> None:
    source = (
        "def refuse(sink, slug, message): sink.error(slug, message)\n"
        "class Diagnostic:\n    slug: str\n    message: str\n"
        "refuse(sink, 'one-thing', 'x'); Diagnostic('two-things', 'x')\n"
        "Diagnostic(slug='three-things' if x else 'four-things', message='x')\n"
    )
    assert set(used_slugs((Module("nmc.x", "nmc/x.py", source),))) == {
        "one-thing",
        "two-things",
        "three-things",
        "four-things",
    }


def test_every_slug_is_explained() -> None:
    from nmc.compiler.explain import catalogue

    used = used_slugs(modules())
    unknown = {slug: place for slug, place in used.items() if slug not in catalogue()}
    assert not unknown, "not in the catalogue:\n" + "\n".join(f"  {s}  ({p})" for s, p in sorted(unknown.items()))


def test_every_explanation_is_used() -> None:
    from nmc.compiler.explain import catalogue

    unused = sorted(set(catalogue()) - set(used_slugs(modules())))
    assert not unused, f"explained but never reported: {unused}"


def test_slugs_are_kebab_case() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) for slug in used_slugs(modules()))


def test_tests_mirror_the_package() -> None:
    """Every folder with tests is a package, so that equal file names never clash."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)
