"""Hostile models, each with its outcome: in bounds of time and memory, nothing read outside, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.invoke import Invoke
from tests.hostile.bad_places import CANARY, FILES, PLACES
from tests.hostile.bad_rules import ATTRIBUTES, GRAPHS, TYPES, VALUES
from tests.hostile.batch import MEMORY
from tests.hostile.bombs import BOMBS, NAMES, VERSIONS
from tests.hostile.cases import Case

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and pipes are those of Linux")

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 10

GROUPS = {
    "graphs": GRAPHS,
    "types": TYPES,
    "values": VALUES,
    "attributes": ATTRIBUTES,
    "bombs": BOMBS,
    "versions": VERSIONS,
    "names": NAMES,
    "places": PLACES,
    "files": FILES,
}
CASES: dict[str, Case] = {f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()}


@dataclass(frozen=True)
class Outcome:
    """What one file did, and what its folder held before and after."""

    found: dict[str, Any]
    before: set[str]
    after: set[str]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """All files, checked one after the other in one process with the limits of the reading process."""
    top = tmp_path_factory.mktemp("hostile")
    work = top / "work"
    work.mkdir()
    paths, before = {}, {}
    for number, (name, case) in enumerate(CASES.items()):
        folder = top / f"outside{number}" / "model"
        folder.parent.mkdir()
        paths[name] = case.write(folder)
        before[name] = names_below(folder.parent)
    sound = ROOT / "nmc" / "demo" / "digits_cnn.onnx"
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.batch", str(sound), str(work)],
        input="".join(json.dumps(str(path)) + "\n" for path in paths.values()),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(work)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()[-len(CASES) :]
    assert os.listdir(work) == []
    return {
        name: Outcome(json.loads(line), before[name], names_below(top / f"outside{number}"))
        for number, (name, line) in enumerate(zip(CASES, lines, strict=True))
    }


def names_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_outcome(outcomes: dict[str, Outcome], name: str) -> None:
    case, outcome = CASES[name], outcomes[name]
    found = outcome.found
    document = json.loads(found["out"])
    slugs = {d["slug"] for d in document["diagnostics"] if d["severity"] == "error"}
    assert found["code"] == case.code, document["diagnostics"]
    assert slugs.intersection(case.slugs) if case.slugs else not slugs, document["diagnostics"]
    assert "internal-error" not in slugs
    assert found["seconds"] < SECONDS and found["peak"] < MEMORY
    assert found["outside"] == [] and found["started"] == []
    assert outcome.after == outcome.before


@pytest.mark.parametrize("name", CASES)
def test_messages(outcomes: dict[str, Outcome], name: str) -> None:
    """Short, printable, without a traceback, without what lies outside."""
    found = outcomes[name].found
    assert found["err"] == "" and "Traceback" not in found["out"]
    assert CANARY.decode() not in found["out"]
    for diagnostic in json.loads(found["out"])["diagnostics"]:
        text = json.dumps(diagnostic)
        assert len(text) < 4096
        origin = diagnostic["origin"] or {}
        for shown in (diagnostic["message"], diagnostic["help"], *origin.values()):
            assert shown.isprintable() and "\u202e" not in shown and "\x1b" not in shown


@pytest.fixture
def isolated(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """The command line as users have it: models are read in a child process."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr("tempfile.tempdir", str(empty))
    return Invoke(capsys, isolated=True)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("bombs: functions of 2^30 nodes", "check"),
        ("places: a symbolic link", "compile"),
        ("names: a hostile operator", "inspect"),
        ("files: a pipe for a model", "check"),
    ],
)
def test_in_a_child_process(isolated: Invoke, tmp_path: Path, name: str, command: str) -> None:
    case = CASES[name]
    path = case.write(tmp_path / "model")
    done = isolated(command, path, *(["--target", "loihi"] if command == "compile" else []))
    assert done.code == case.code
    assert any(f"error[{slug}]" in done.err for slug in case.slugs), done.err
    assert "\x1b" not in done.err + done.out
    assert os.listdir() == []


PACKAGED = ("names that act on a terminal", "names that are paths", "names that are Python")


@pytest.mark.parametrize("name", PACKAGED)
def test_names_in_packages(isolated: Invoke, tmp_path: Path, name: str) -> None:
    """Names of a model are neither paths nor source in what is emitted."""
    path = NAMES[name].write(tmp_path / "model")
    done = isolated("compile", path, "--target", "loihi", "-T", "2", "--quiet", "-o", "x.nmc", "--json")
    assert done.code == 0, done.out
    assert os.listdir() == ["x.nmc"]
    check_package(Path("x.nmc"))
    report = isolated("report", "x.nmc", "-o", "report.html")
    assert report.code == 0, report.err
    text = Path("report.html").read_text()
    assert "\x1b" not in text and "\u202e" not in text
    assert sorted(os.listdir()) == ["report.html", "x.nmc"]


def check_package(artifact: Path) -> None:
    """Member names are ours, and its Python sources name nothing of the model outside of data."""
    import ast
    import zipfile

    with zipfile.ZipFile(artifact) as archive:
        for member in archive.namelist():
            assert member.isascii() and member.isprintable() and ".." not in member and "evil" not in member
            assert not member.startswith("/")
            if member.endswith(".py"):
                tree = ast.parse(archive.read(member))
                called = {ast.unparse(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call)}
                assert not called & {"__import__", "exec", "eval", "os.system"}
