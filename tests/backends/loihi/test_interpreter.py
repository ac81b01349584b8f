"""Finding and setting up the Lava interpreter, without a network."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nmc.backends.loihi import interpreter
from nmc.backends.loihi.emit import template
from nmc.backends.loihi.interpreter import LavaInterpreter, find_lava, install_lava, isolated_environment, probe
from nmc.ir.diagnostic import ExitCode, NmcError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NMC_LAVA_PYTHON", raising=False)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, body: str) -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    return write


def test_not_set_up() -> None:
    reason = find_lava()
    assert isinstance(reason, str)
    assert "not set up" in reason and "NMC_LAVA_PYTHON" in reason


def test_named_interpreter_without_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_LAVA_PYTHON", sys.executable)
    reason = find_lava()
    assert isinstance(reason, str)
    assert sys.executable in reason and "No module named 'lava'" in reason


def test_named_interpreter_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMC_LAVA_PYTHON", "/nowhere/python")
    assert "/nowhere/python" in str(find_lava())


def test_named_interpreter_wins(script: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = script("python", """echo '["3", "10", "0.10.0"]'""")
    monkeypatch.setenv("NMC_LAVA_PYTHON", str(fake))
    assert find_lava() == LavaInterpreter(fake, (3, 10), "0.10.0")


@pytest.mark.parametrize("body", ["exit 0", "echo hello", "echo '{}'"])
def test_what_is_no_python(body: str, script: Callable[[str, str], Path]) -> None:
    assert probe(script("python", body)) == "it did not answer as a Python does"


def test_broken_environment_says_why(script: Callable[[str, str], Path], tmp_path: Path) -> None:
    (tmp_path / "cache" / "lava" / "bin").mkdir(parents=True)
    broken = script("python", "echo 'ImportError: half installed' >&2; exit 1")
    broken.rename(tmp_path / "cache" / "lava" / "bin" / "python")
    assert find_lava() == "the Lava environment is broken: ImportError: half installed"


def test_our_packages_do_not_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("VIRTUAL_ENV", "/ours")
    environment = isolated_environment()
    assert "PYTHONPATH" not in environment and "VIRTUAL_ENV" not in environment
    assert environment.get("PATH") == os.environ.get("PATH")


def test_shims_that_do_not_work_are_passed_over(
    script: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = script("python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 127")
    monkeypatch.setenv("PATH", str(shim.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    asked = []

    def refuse(python: Path, home: Path, log: object) -> str:
        asked.append(python)
        return "planted failure"

    monkeypatch.setattr(interpreter, "_make", refuse)
    lines: list[str] = []
    with pytest.raises(NmcError) as caught:
        install_lava(lines.append)
    (diagnostic,) = caught.value.diagnostics
    assert caught.value.exit_code is ExitCode.MISSING
    assert diagnostic.slug == "lava-not-installed"
    assert "pyenv: python3.10: command not found" in diagnostic.message
    assert "uv is not on PATH" in diagnostic.message
    assert shim not in asked
    running_is_candidate = sys.version_info[:2] in ((3, 10), *interpreter.SHIMMED)
    assert bool(asked) == running_is_candidate
    assert ("planted failure" in diagnostic.message) == running_is_candidate
    assert not (tmp_path / "cache" / "lava").exists()


def test_first_that_works_is_taken(
    script: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = script("python3.10", f"""echo '["3", "10", "{tmp_path}/real"]'""")
    monkeypatch.setenv("PATH", str(real.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    made = LavaInterpreter(tmp_path / "python", (3, 10), "0.10.0")
    asked = []

    def accept(python: Path, home: Path, log: object) -> LavaInterpreter:
        asked.append((python, home))
        return made

    monkeypatch.setattr(interpreter, "_make", accept)
    assert install_lava(lambda line: None) == made
    assert asked == [(tmp_path / "real", tmp_path / "cache" / "lava")]


def test_what_works_is_kept(script: Callable[[str, str], Path], tmp_path: Path) -> None:
    home = tmp_path / "cache" / "lava" / "bin"
    home.mkdir(parents=True)
    script("python", """echo '["3", "10", "0.10.0"]'""").rename(home / "python")
    lines: list[str] = []
    assert install_lava(lines.append).python == home / "python"
    assert "already" in lines[0]


def test_failed_setup_leaves_nothing(script: Callable[[str, str], Path], tmp_path: Path) -> None:
    bad = script("python", "echo 'no venv here' >&2; exit 1")
    home = tmp_path / "cache" / "lava"
    assert interpreter._make(bad, home, lambda line: None) == "no venv here"
    assert list(home.parent.iterdir()) == []


def test_shim_reaches_only_lava(tmp_path: Path) -> None:
    """A default without a hash is refused since 3.11; the shim gives Lava's classes one."""
    (tmp_path / "shim.py").write_text(template("dataclass_shim.py.txt"))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import shim\n"
        "from dataclasses import dataclass\n"
        "text = '''\n@dataclass\nclass Inner:\n    x: int = 0\n"
        "@dataclass\nclass Outer:\n    inner: Inner = Inner()\n'''\n"
        "exec(text, {'dataclass': dataclass, '__name__': 'lava.magma'})\n"
        "try: exec(text, {'dataclass': dataclass, '__name__': 'lavaliere'})\n"
        "except ValueError: print('[\"kept\"]')\n"
    )
    assert interpreter.ask(sys.executable, code) == ["kept"]
