"""The Python that runs Lava: found, or set up in the user's cache folder.

Lava 0.10 declares Python 3.10 only and needs numpy 1, so it never shares the compiler's
environment. Under 3.11 and 3.12 it runs with a small start-up shim, which `install_lava`
puts into the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nmc.backends.loihi.emit import template
from nmc.ir.diagnostic import ExitCode, NmcError

LAVA = "lava-nc==0.10.0"

REQUIREMENTS = (
    "numpy>=1.24.4,<2",
    "scipy>=1.10.1,<1.16",
    "networkx<=2.8.7",
    "asteval>=0.9.31,<0.10",
    "scikit-learn>=1.5,<2",
    "setuptools<81",
)
"""What lava-nc 0.10.0 declares, with two ceilings: scipy 1.16 needs newer numpy than some of its
parts run with, and Lava imports ``pkg_resources``-era modules that later setuptools drop."""

PYTHON = (3, 10)
SHIMMED = ((3, 11), (3, 12))
"""Versions on which the shim is known to work; numpy 1 has no wheels for later ones."""

VARIABLE = "NMC_LAVA_PYTHON"
HELP = "run: nmc doctor --install lava"

_CHECK_SECONDS = 60
_INSTALL_SECONDS = 1800
_SHIM = "nmc_lava_shim"

_IDENTIFY = "import json, sys, venv, ensurepip; print(json.dumps([*map(str, sys.version_info[:2]), sys.executable]))"
_PROBE = (
    "import json, sys, importlib.metadata as m; import lava.proc.sparse.process, lava.proc.lif.models, "
    "lava.magma.runtime.runtime; print(json.dumps([*map(str, sys.version_info[:2]), m.version('lava-nc')]))"
)


@dataclass(frozen=True)
class LavaInterpreter:
    """A Python that imports Lava.

    Attributes:
        python: the executable.
        python_version: (major, minor).
        lava_version: of the lava-nc distribution.
    """

    python: Path
    python_version: tuple[int, int]
    lava_version: str


def cache_folder() -> Path:
    """``$NMC_CACHE``, else ``~/.cache/nmc``."""
    given = os.environ.get("NMC_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "nmc"


def find_lava() -> LavaInterpreter | str:
    """The Lava interpreter, or the reason why there is none.

    Looks at ``$NMC_LAVA_PYTHON`` (and nowhere else if it is set), then at the environment
    ``lava`` in the cache folder.
    """
    given = os.environ.get(VARIABLE)
    if given:
        found = probe(Path(given))
        return f"{VARIABLE}={given} cannot be used: {found}" if isinstance(found, str) else found
    python = lava_python()
    if not python.exists():
        return f"Lava is not set up: {VARIABLE} is not set and {python} does not exist"
    found = probe(python)
    return f"the Lava environment is broken: {found}" if isinstance(found, str) else found


def lava_python() -> Path:
    """Where the Lava interpreter has to be: ``$NMC_LAVA_PYTHON``, else in the cache folder."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else _python_of(cache_folder() / "lava")


def probe(python: Path) -> LavaInterpreter | str:
    """Import Lava with an interpreter: what it is, or what went wrong (one line)."""
    answer = ask(python, _PROBE)
    if isinstance(answer, str):
        return answer
    major, minor, version = answer
    return LavaInterpreter(python, (int(major), int(minor)), version)


def isolated_environment() -> dict[str, str]:
    """This process's environment without what would leak our packages into another Python."""
    leaking = {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    return {key: value for key, value in os.environ.items() if key not in leaking}


def install_lava(log: Callable[[str], None]) -> LavaInterpreter:
    """Set Lava up in the cache folder; an environment that works already is kept.

    Tries a Python 3.10 on PATH or under pyenv, then this interpreter and others of 3.11
    and 3.12 with the shim, then ``uv python install 3.10``.

    Args:
        log: takes progress, one line at a time.

    Raises:
        NmcError: (exit 6) nothing worked; names all that was tried and why it failed.
    """
    home = cache_folder() / "lava"
    found = probe(_python_of(home)) if _python_of(home).exists() else "absent"
    if isinstance(found, LavaInterpreter):
        log(f"Lava {found.lava_version} is already set up: {found.python}")
        return found
    tried: list[str] = []
    for python in _candidates(log, tried):
        log(f"setting up {LAVA} with {python}")
        made = _make(python, home, log)
        if isinstance(made, LavaInterpreter):
            return made
        tried.append(f"{python}: {made}")
    raise NmcError.single(
        "lava-not-installed",
        "Lava could not be set up; tried " + "; ".join(tried),
        ExitCode.MISSING,
        help=f"install Python 3.10 (or uv) and run the command again, or set {VARIABLE}",
    )


def _python_of(environment: Path) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin") / "python"


def ask(python: Path | str, code: str) -> list[str] | str:
    """Run a line of code that prints a JSON list of strings; the list, or the last line of the failure."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=_CHECK_SECONDS,
            env=isolated_environment(),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode != 0:
        return _last_line(done.stderr) or f"exit code {done.returncode}"
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return "it did not answer as a Python does"
    return [str(part) for part in answer] if isinstance(answer, list) else "it did not answer as a Python does"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _identify(python: Path | str) -> tuple[tuple[int, int], Path] | str:
    """Version and real executable of a Python that can make environments, or why it cannot."""
    answer = ask(python, _IDENTIFY)
    if isinstance(answer, str):
        return answer
    major, minor, executable = answer
    return (int(major), int(minor)), Path(executable)


def _candidates(log: Callable[[str], None], tried: list[str]) -> Iterator[Path]:
    """Interpreters to try, best first; why others are no candidates goes to ``tried``."""
    for wanted in (PYTHON, *SHIMMED):
        seen: set[Path] = set()
        for python in _named(wanted):
            found = _identify(python)
            if isinstance(found, str):
                tried.append(f"{python}: {found}")
            elif found[0] != wanted:
                tried.append(f"{python}: is Python {found[0][0]}.{found[0][1]}")
            elif found[1] not in seen:
                seen.add(found[1])
                yield found[1]
        if wanted == PYTHON and not seen:
            tried.append("no working Python 3.10 on PATH or under pyenv")
    yield from _from_uv(log, tried)


def _named(version: tuple[int, int]) -> Iterator[str]:
    """Where a Python of a version may be: this one, PATH, pyenv."""
    if sys.version_info[:2] == version:
        yield sys.executable
    name = f"python{version[0]}.{version[1]}"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if folder and (found := shutil.which(name, path=folder)):
            yield found
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for found_path in sorted(root.glob(f"versions/{version[0]}.{version[1]}*/bin/python"), reverse=True):
        yield str(found_path)


def _from_uv(log: Callable[[str], None], tried: list[str]) -> Iterator[Path]:
    uv = shutil.which("uv")
    if uv is None:
        tried.append("uv is not on PATH")
        return
    log("asking uv for Python 3.10")
    for command in ([uv, "python", "install", "3.10"], [uv, "python", "find", "3.10"]):
        done = _run(command)
        if isinstance(done, str):
            tried.append(f"{' '.join(command[1:])}: {done}")
            return
        answer = done.stdout.strip()
    yield Path(answer)


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | str:
    """Run a command; the last line of what it says if it fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            env=isolated_environment(),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done if done.returncode == 0 else _last_line(done.stderr) or f"exit code {done.returncode}"


def _make(python: Path, home: Path, log: Callable[[str], None]) -> LavaInterpreter | str:
    """An environment beside ``home``, moved there once it imports Lava; else what failed."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix="lava-", dir=home.parent))
    except OSError as error:
        return str(error)
    try:
        inner = _python_of(building)
        pip = [str(inner), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (
            [str(python), "-m", "venv", str(building)],
            [*pip, *REQUIREMENTS],
            [*pip, "--no-deps", "--ignore-requires-python", LAVA],
        ):
            log("  " + " ".join(command[1:4]) + " ...")
            done = _run(command)
            if isinstance(done, str):
                return done
        identified = _identify(inner)
        if isinstance(identified, str):
            return identified
        if identified[0] in SHIMMED and (failed := _add_shim(inner)):
            return failed
        made = probe(inner)
        if isinstance(made, str):
            return made
        # An environment finds itself by its place, so it may be moved; a broken one goes first.
        shutil.rmtree(home, ignore_errors=True)
        building.rename(home)
        return probe(_python_of(home))
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _add_shim(inner: Path) -> str | None:
    """Put the start-up shim into an environment; None, or what failed."""
    answer = ask(inner, "import json, sysconfig; print(json.dumps([sysconfig.get_path('purelib')]))")
    if isinstance(answer, str):
        return answer
    packages = Path(answer[0])
    (packages / f"{_SHIM}.py").write_text(template("dataclass_shim.py.txt"), encoding="utf-8")
    # A .pth line that begins with "import" runs at every start of this Python.
    (packages / f"{_SHIM}.pth").write_text(f"import {_SHIM}\n", encoding="utf-8")
    return None
