"""Backends by entry point: what a stranger's package may do wrong stays its own trouble."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nmc.backends.api import Options
from nmc.backends.loihi.backend import LoihiBackend
from nmc.compiler import plugins
from nmc.compiler.doctor import examine, install_device
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.diagnostic import ExitCode, NmcError
from tests.cli.invoke import Invoke

GOOD = """
from nmc.backends.loihi.backend import LoihiBackend
from dataclasses import replace

class Backend(LoihiBackend):
    name = "FAMILY"
    default_target = "FAMILY1"
    def targets(self):
        base = LoihiBackend().targets()["loihi2"]
        return {"FAMILY1": replace(base, name="FAMILY1", family="FAMILY")}
    def target_text(self, name):
        return "text of " + name if name == "FAMILY1" else None
"""


class Installed:
    """Writes plugin modules and makes them the installed ones."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.entries: list[EntryPoint] = []
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(plugins, "entry_points", self._find)

    def _find(self, *, group: str) -> Sequence[EntryPoint]:
        assert group == "nmc.backends"
        return self.entries

    def add(self, family: str, source: str) -> str:
        module = f"plugin_{family}_{len(self.entries)}_{abs(hash(self.folder))}"
        (self.folder / f"{module}.py").write_text(source.replace("FAMILY", family))
        self.entries.append(EntryPoint(family, f"{module}:Backend", plugins.GROUP))
        return module


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(tmp_path, monkeypatch)


def fails(name: str) -> tuple[str, ExitCode, str]:
    with pytest.raises(NmcError) as caught:
        plugins.find_target(name)
    return caught.value.diagnostics[0].slug, caught.value.exit_code, str(caught.value)


def test_our_own_backend_comes_by_entry_point() -> None:
    assert [p.family for p in plugins.installed()] == ["loihi"]
    backend, target = plugins.find_target("loihi")
    assert (backend.name, target.name) == ("loihi", "loihi2")
    assert plugins.find_target("loihi1")[1].name == "loihi1"
    assert plugins.find_target("loihi:loihi1")[1].name == "loihi1"


def test_near_miss() -> None:
    with pytest.raises(NmcError) as caught:
        plugins.find_target("lohi2")
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.diagnostics[0].help == "did you mean 'loihi2'?"


def test_only_the_chosen_one_is_imported(installed: Installed) -> None:
    alpha, beta = installed.add("alpha", GOOD), installed.add("beta", GOOD)
    assert plugins.find_target("beta1")[1].name == "beta1"
    assert beta in sys.modules and alpha not in sys.modules
    assert plugins.find_target("beta")[1].name == "beta1"
    assert alpha not in sys.modules


@pytest.mark.parametrize(
    ("source", "slug", "text"),
    [
        ("import a_package_that_is_not_there", "backend-broken", "ModuleNotFoundError"),
        ("raise SystemExit(0)", "backend-broken", "SystemExit"),
        ("x = (", "backend-broken", "SyntaxError"),
        ("x = 1", "backend-broken", "Backend"),
        ("class Backend:\n    def __init__(self, x): pass", "backend-broken", "TypeError"),
        ("class Backend:\n    name = 'odd'\n    api_version = 1", "backend-broken", "lacks targets, pipeline, emit"),
        (GOOD + "    api_version = 99\n", "backend-version", "99"),
        (GOOD + "    def targets(self): raise KeyError('grid')\n", "backend-broken", "KeyError"),
    ],
)
def test_broken_plugins(installed: Installed, source: str, slug: str, text: str) -> None:
    installed.add("odd", source)
    installed.add("good", GOOD)
    found = fails("odd1")
    assert found[:2] == (slug, ExitCode.MISSING)
    assert text in found[2] and "odd" in found[2]
    assert plugins.find_target("good1")[1].name == "good1"
    rows = {row.family: row for row in plugins.listing()}
    assert rows["odd"].target is None and text in rows["odd"].broken
    assert rows["good"].target is not None and not rows["good"].broken


@pytest.mark.parametrize(
    ("source", "row", "status"),
    [
        ("    def devices(self): raise KeyError('port')\n", "backend odd", "broken"),
        (
            "    def devices(self):\n        class Bad:\n            name = 'bad'\n"
            "            def missing(self): raise OSError('no driver')\n        return {'bad': Bad()}\n",
            "device bad",
            "broken",
        ),
    ],
)
def test_broken_devices_spoil_only_themselves(installed: Installed, source: str, row: str, status: str) -> None:
    installed.add("odd", GOOD + source)
    installed.add("good", GOOD)
    rows = {finding.name: finding for finding in examine()}
    assert rows[row].status == status and ("KeyError" in rows[row].found or "no driver" in rows[row].found)
    assert rows["backend good"].status == "ok" and "device lava" in rows
    if row == "backend odd":
        with pytest.raises(NmcError) as caught:
            plugins.devices_of("odd")
        assert (caught.value.exit_code, caught.value.diagnostics[0].slug) == (ExitCode.MISSING, "backend-broken")
    with pytest.raises(NmcError) as caught:
        install_device("nothing", lambda line: None)
    assert "lava" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "source"),
    [
        ("make a pipeline", "    def pipeline(self, target, options): raise KeyError('passes')\n"),
        ("emit", "    def emit(self, program, target, options): raise KeyError('blob')\n"),
    ],
)
def test_a_backend_that_fails_at_work_is_named(
    installed: Installed, call: str, source: str, tmp_path: Path, model: Path
) -> None:
    """No internal error of ours: the plugin that brought it, what it was asked, and what it raised."""
    installed.add("odd", GOOD + source)
    request = CompileRequest("odd1", Options(timesteps=4), isolated=False)
    with pytest.raises(NmcError) as caught:
        compile_file(model, request)
    (problem,) = caught.value.diagnostics
    assert (caught.value.exit_code, problem.slug) == (ExitCode.MISSING, "backend-broken")
    assert f"cannot {call}" in problem.message and "KeyError" in problem.message and "'odd'" in problem.message


def test_what_our_own_backend_raises_stays_an_internal_error(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """A reproducer is written for it; it is no trouble of an installation."""

    def fails(self: LoihiBackend, *_: object) -> None:
        raise KeyError("blob")

    monkeypatch.setattr(LoihiBackend, "emit", fails)
    with pytest.raises(KeyError, match="blob"):
        compile_file(model, CompileRequest("loihi2", Options(timesteps=4), isolated=False))


def test_duplicate_family(installed: Installed) -> None:
    installed.add("twin", GOOD)
    installed.add("twin", GOOD + "\n")
    assert fails("twin1")[:2] == ("backend-duplicate", ExitCode.MISSING)


def test_unknown_family_and_nothing_installed(installed: Installed) -> None:
    assert fails("nothing")[:2] == ("target-unknown", ExitCode.USAGE)
    assert fails("no:thing")[:2] == ("backend-unknown", ExitCode.USAGE)
    installed.add("alpha", GOOD)
    assert "did you mean 'alpha'?" in _help("alhpa:alpha1")


def _help(name: str) -> str:
    with pytest.raises(NmcError) as caught:
        plugins.find_target(name)
    return caught.value.diagnostics[0].help


def test_an_unknown_target_names_broken_plugins(installed: Installed) -> None:
    """The one that was meant may be the one that is broken."""
    installed.add("alpha", GOOD)
    installed.add("odd", "raise RuntimeError('no licence')")
    with pytest.raises(NmcError) as caught:
        plugins.find_target("mystery")
    assert [d.slug for d in caught.value.diagnostics] == ["target-unknown", "backend-broken"]


def test_target_file(installed: Installed, tmp_path: Path) -> None:
    assert fails(str(tmp_path / "missing.toml"))[0] == "target-unreadable"


def test_text_of_a_target_to_extend(installed: Installed) -> None:
    installed.add("alpha", GOOD)
    installed.add("odd", "raise RuntimeError('no licence')")
    assert plugins.target_text("alpha1") == "text of alpha1"
    assert plugins.target_text("nothing") is None


def test_listing_shows_broken_plugins(nmc: Invoke, installed: Installed) -> None:
    installed.add("alpha", GOOD)
    installed.add("odd", "raise RuntimeError('no licence')")
    done = nmc("targets")
    assert done.code == 0
    assert "alpha1" in done.out and "(broken)" in done.out and "no licence" in done.out
    rows = nmc("targets", "--json").document["targets"]
    assert [row["name"] for row in rows] == ["alpha1", None]
    assert "no licence" in rows[1]["broken"]
