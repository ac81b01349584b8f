"""Files that are not what they should be: one clear error, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.invoke import Done, Invoke


def refused(done: Done, *codes: int) -> None:
    """It ended with one of the codes, said why, and left nothing in the current folder."""
    assert done.code in codes, done.err
    assert done.out == ""
    assert done.err.startswith("error["), done.err
    assert "internal-error" not in done.err
    assert os.listdir() == []


def _truncated(model: Path) -> bytes:
    return model.read_bytes()[: model.stat().st_size // 2]


GARBAGE: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda model: b"",
    "text": lambda model: b"this is no model\n" * 50,
    "noise": lambda model: np.random.default_rng(0).bytes(4096),
    "zeros": lambda model: bytes(4096),
    "truncated": _truncated,
    "pickle": lambda model: b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94.",
    "png": lambda model: b"\x89PNG\r\n\x1a\n" + bytes(64),
    "zip": lambda model: b"PK\x03\x04" + bytes(64),
    "toml": lambda model: b'[target]\nname = "x"\n',
    "repeated": lambda model: model.read_bytes() * 2 + b"\xff" * 64,
}


@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("command", ["check", "compile", "inspect"])
def test_models(nmc: Invoke, model: Path, tmp_path: Path, command: str, kind: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GARBAGE[kind](model))
    extra = ["--target", "loihi"] if command == "compile" else []
    refused(_silent_check(nmc(command, path, *extra)), 3)


def _silent_check(done: Done) -> Done:
    """``check`` shows the operators that it could read before it fails."""
    return Done(done.code, "" if done.code == 3 else done.out, done.err)


@pytest.mark.parametrize("command", ["run", "eval", "verify", "report", "inspect"])
@pytest.mark.parametrize("kind", ["empty", "text", "noise", "truncated", "zip", "toml"])
def test_artifacts(nmc: Invoke, model: Path, tmp_path: Path, command: str, kind: str) -> None:
    path = tmp_path / "x.nmc"
    path.write_bytes(GARBAGE[kind](model))
    refused(nmc(command, path, *(["--data", "random:1"] if command in ("run", "eval") else [])), 3)


@pytest.mark.parametrize("command", ["check", "compile", "inspect", "run", "eval", "verify", "report"])
@pytest.mark.parametrize("kind", ["missing", "folder", "device", "odd"])
def test_paths(nmc: Invoke, tmp_path: Path, command: str, kind: str) -> None:
    path = {
        "missing": tmp_path / "no" / "model.onnx",
        "folder": tmp_path,
        "device": Path("/dev/null"),
        "odd": tmp_path / ("x" * 300),
    }[kind]
    extra = {"compile": ["--target", "loihi"], "run": ["--data", "random:1"], "eval": ["--data", "random:1"]}
    refused(nmc(command, path, *extra.get(command, [])), 2)


def test_names_with_control_characters(nmc: Invoke, tmp_path: Path) -> None:
    done = nmc("check", tmp_path / "a\x1b[2J\nb.onnx")
    refused(done, 2)
    assert r"a\x1b[2J\x0ab.onnx" in done.err


@pytest.mark.parametrize("position", [0.1, 0.5, 0.9])
def test_a_flipped_bit_is_seen(nmc: Invoke, artifact: Path, tmp_path: Path, position: float) -> None:
    content = bytearray(artifact.read_bytes())
    content[int(position * len(content))] ^= 4
    path = tmp_path / "flipped.nmc"
    path.write_bytes(content)
    refused(nmc("verify", path), 3)


def test_a_newer_artifact_is_refused(nmc: Invoke, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "newer.nmc"
    with zipfile.ZipFile(artifact) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b'"format": 2', b'"format": 9') if name == "manifest.json" else content)
    done = nmc("inspect", path)
    refused(done, 3)
    assert "error[artifact-newer]" in done.err


def _npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


GOOD = np.zeros((4, 1, 8, 8), dtype=np.uint8)
DATA: dict[str, dict[str, object]] = {
    "wrong shape": {"x": np.zeros((4, 3, 8, 8))},
    "no batch axis": {"x": np.zeros((1, 8, 8))},
    "empty": {"x": np.zeros((0, 1, 8, 8))},
    "no x": {"images": GOOD},
    "nan": {"x": np.full((4, 1, 8, 8), np.nan)},
    "objects": {"x": np.array([{}, {}, {}, {}], dtype=object)},
    "text": {"x": np.array(["a"] * 4)},
    "complex": {"x": GOOD.astype(np.complex64)},
    "labels of another length": {"x": GOOD, "y": np.zeros(3, dtype=int)},
    "labels that are fractions": {"x": GOOD, "y": np.full(4, 0.5)},
}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("command", ["run", "eval", "compile"])
def test_data(nmc: Invoke, artifact: Path, model: Path, tmp_path: Path, command: str, kind: str) -> None:
    path = _npz(tmp_path / "data.npz", **DATA[kind])
    if command == "compile":
        refused(nmc("compile", model, "--target", "loihi", "--calib", path), 2)
    else:
        refused(nmc(command, artifact, "--data", path), 2)


@pytest.mark.parametrize("spec", ["missing.npz", "random:0", "", ".", "/dev/null", "model.csv:3"])
def test_data_specs(nmc: Invoke, artifact: Path, spec: str) -> None:
    refused(nmc("run", artifact, "--data", spec), 2)


def test_labels_outside_the_outputs(nmc: Invoke, artifact: Path, tmp_path: Path) -> None:
    path = _npz(tmp_path / "data.npz", x=GOOD, y=np.array([0, 1, 2, 10]))
    refused(nmc("eval", artifact, "--data", path), 2)


@pytest.mark.parametrize(
    ("place", "make"),
    [
        ("no/such/folder/out", None),
        ("taken", "folder"),
        ("file/out", "file"),
        pytest.param(
            "/proc/out",
            None,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a folder that nobody can write"),
        ),
    ],
)
@pytest.mark.parametrize("command", ["compile", "run", "report"])
def test_outputs_that_cannot_be_written(
    nmc: Invoke, artifact: Path, model: Path, tmp_path: Path, command: str, place: str, make: str | None
) -> None:
    if make == "folder":
        (tmp_path / "taken").mkdir()
    elif make == "file":
        (tmp_path / "file").write_text("x")
    arguments = {
        "compile": [model, "--target", "loihi", "-T", "2"],
        "run": [artifact, "--data", "random:1"],
        "report": [artifact],
    }[command]
    done = nmc(command, *arguments, "-o", tmp_path / place, "--json")
    assert done.code == 2
    assert "error" in {d["severity"] for d in done.document["diagnostics"]}
    assert {"path-not-writable", "path-not-usable"} & set(done.slugs)
    assert os.listdir() == []
    assert sorted(p.name for p in tmp_path.iterdir() if p.name not in ("taken", "file")) == ["empty"]


@pytest.mark.parametrize("command", ["compile", "run", "report"])
def test_inputs_are_never_overwritten(nmc: Invoke, artifact: Path, model: Path, command: str) -> None:
    first = model if command == "compile" else artifact
    before = first.read_bytes()
    extra = {"compile": ["--target", "loihi"], "run": ["--data", "random:1"], "report": []}[command]
    refused(nmc(command, first, *extra, "-o", first), 2)
    assert first.read_bytes() == before
