"""Reading in a child process: the same answer, and every death of the child is an error of the file."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from onnx import helper

from nmc.compiler.frontends import isolation
from nmc.compiler.frontends.isolation import Limits, check_isolated, read_isolated
from nmc.compiler.frontends.onnx import check_model, read_model
from nmc.compiler.frontends.reply import Reply, read_reply, write_reply
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.printer import format_program
from tests.compiler.frontends.onnx_models import floats, model_of, saved

DEMO = Path(__file__).resolve().parents[3] / "nmc" / "demo" / "digits_cnn.onnx"


def small(folder: Path) -> Path:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["g"]), helper.make_node("Relu", ["g"], ["y"])]
    return saved(model_of(nodes, {"w": floats(4, 3)}, ["N", 4]), folder)


def failure(path: Path, limits: Limits | None = None) -> NmcError:
    with pytest.raises(NmcError) as caught:
        read_isolated(path, limits or Limits())
    return caught.value


def test_the_same_model() -> None:
    there, here = read_isolated(DEMO), read_model(DEMO)
    assert there.onnx == here.onnx and there.sha256 == here.sha256 and there.name == here.name
    assert there.operators == here.operators and there.integers == here.integers
    assert format_program(there.graph) == format_program(here.graph)
    for mine, its in zip(here.graph.layers, there.graph.layers, strict=True):
        for name, value in vars(mine.op).items():
            if hasattr(value, "dtype"):
                assert getattr(its.op, name).dtype == value.dtype


def test_the_same_problems(tmp_path: Path) -> None:
    path = saved(model_of([helper.make_node("Sqrt", ["x"], ["y"], name="a\nb")], {}, ["N", 4]), tmp_path)
    assert check_isolated(path) == check_model(path)
    there = failure(path)
    with pytest.raises(NmcError) as here:
        read_model(path)
    assert there.diagnostics == here.value.diagnostics and there.exit_code is here.value.exit_code


@pytest.mark.parametrize("name", ["missing.onnx", "\udcff\udc80.onnx", "a b'\"$(touch x).onnx"])
def test_odd_paths(tmp_path: Path, name: str) -> None:
    assert failure(tmp_path / name).exit_code is ExitCode.USAGE
    sound = small(tmp_path)
    sound.rename(tmp_path / name)
    assert read_isolated(tmp_path / name).graph.layers


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
def test_memory_runs_out(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(500 << 20)
    error = failure(path, Limits(memory=600 << 20))
    assert [d.slug for d in error.diagnostics] == ["model-over-budget"] and error.exit_code is ExitCode.MODEL
    assert "0.6 GiB" in error.diagnostics[0].message and error.diagnostics[0].help


@pytest.mark.parametrize("limits", [Limits(processor=0), Limits(clock=0)])
def test_time_runs_out(tmp_path: Path, limits: Limits) -> None:
    if limits.processor == 0 and sys.platform == "win32":
        pytest.skip("no limit of processor time")
    error = failure(small(tmp_path), limits)
    assert [d.slug for d in error.diagnostics] == ["model-over-budget"] and "0 seconds" in error.diagnostics[0].message


@pytest.mark.parametrize(("number", "name"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "SIGKILL")])
def test_the_child_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str) -> None:
    monkeypatch.setattr(isolation, "_run", lambda request, limits, answer: -number)
    error = failure(small(tmp_path))
    assert [d.slug for d in error.diagnostics] == ["model-reader-died"] and name in error.diagnostics[0].message


def test_a_defect_of_ours_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: object, limits: object, file: io.BytesIO) -> int:
        write_reply(Reply(defect="Traceback ...\nKeyError: 'x'"), file)
        return 0

    monkeypatch.setattr(isolation, "_run", answer)
    with pytest.raises(RuntimeError, match="KeyError") as caught:
        read_isolated(small(tmp_path))
    assert "Traceback" in caught.value.__notes__[0]


def whole(tmp_path: Path) -> bytes:
    stream = io.BytesIO()
    write_reply(Reply(model=read_model(small(tmp_path))), stream)
    return stream.getvalue()


def test_answers_are_checked(tmp_path: Path) -> None:
    content = whole(tmp_path)
    assert read_reply(io.BytesIO(content)).model is not None
    for length in (0, 4, 8, 100, len(content) // 2, len(content) - 1):
        with pytest.raises(ValueError):
            read_reply(io.BytesIO(content[:length]))
    with pytest.raises(ValueError):
        read_reply(io.BytesIO((2**62).to_bytes(8, "little") + content[8:]))
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    rest = content[8 + int.from_bytes(content[:8], "little") :]
    changes = (
        lambda t: t["model"].update(name=7),
        lambda t: t["model"]["graph"].update(type="Network"),
        lambda t: t["model"]["graph"]["layers"][1].update(inputs=["nobody"]),
        lambda t: t["model"]["graph"]["layers"][1]["op"].update(type="os.system"),
        lambda t: t["model"].update(operators=[{}]),
        lambda t: t.update(members=["onnx", "onnx"]),
        lambda t: t.update(error={"code": 99, "diagnostics": []}),
    )
    for change in changes:
        tree = json.loads(json.dumps(head))
        change(tree)
        text = json.dumps(tree).encode()
        with pytest.raises(ValueError):
            read_reply(io.BytesIO(len(text).to_bytes(8, "little") + text + rest))


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    read_isolated(small(tmp_path))
    with pytest.raises(NmcError):
        read_isolated(small(tmp_path), Limits(clock=0))
    assert os.listdir(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_child_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    """The child waits at a pipe that nobody writes to: it lives until it is ended."""
    os.mkfifo(tmp_path / "started")
    os.mkfifo(tmp_path / "never")
    child = tmp_path / "child.py"
    child.write_text(
        "import json, os, sys\n"
        "from nmc.runtime.confinement import end_with_parent\n"
        "end_with_parent(json.loads(sys.stdin.read())['parent'])\n"
        f"open({str(tmp_path / 'started')!r}, 'w').write(str(os.getpid()))\n"
        f"open({str(tmp_path / 'never')!r}).read()\n"
    )
    code = (
        "import signal, subprocess, sys\n"
        "from nmc.compiler.frontends import isolation\n"
        # What runs in the background of a shell inherits that it ignores an interrupt.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "start = subprocess.Popen\n"
        f"subprocess.Popen = lambda command, **options: start([command[0], {str(child)!r}], **options)\n"
        f"isolation.read_isolated({str(tmp_path / 'x.onnx')!r})\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    pid = int((tmp_path / "started").read_text())
    handle = os.pidfd_open(pid)
    os.kill(parent.pid, number)
    parent.wait(60)
    import select

    ended, _, _ = select.select([handle], [], [], 60)
    os.close(handle)
    assert ended == [handle]
