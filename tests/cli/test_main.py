"""Parsing, failures and exit codes of the command line as a whole."""

from __future__ import annotations

import errno
import json
import zipfile
from pathlib import Path

import pytest

from nmc import __version__
from nmc.compiler import explain
from nmc.compiler.cli.main import EPILOG
from nmc.ir.diagnostic import Diagnostic, ExitCode, NmcError
from nmc.ir.origin import Origin
from nmc.runtime.artifact import Artifact
from tests.cli.invoke import Invoke

COMMANDS = [
    *("compile", "check", "inspect", "run", "eval", "verify", "report", "explore"),
    *("targets", "passes", "ops", "explain", "doctor", "demo"),
]


def test_help_lists_exactly_the_commands(nmc: Invoke) -> None:
    done = nmc("--help")
    assert done.code == 0
    listed = [line.split()[0] for line in done.out.split("Commands:")[1].splitlines() if line.startswith("  ")]
    assert listed[: len(COMMANDS)] == COMMANDS
    assert " ".join(EPILOG.split()) in " ".join(done.out.split())
    assert nmc().out == done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(nmc: Invoke, command: str) -> None:
    done = nmc(command, "--help")
    assert done.code == 0
    assert "--json" in done.out and "--debug" in done.out


def test_version(nmc: Invoke) -> None:
    assert nmc("--version").out == f"nmc {__version__}\n"


@pytest.mark.parametrize("arguments", [["chekc"], ["check"], ["compile", "--nope"], ["check", "a", "b"], ["run", "-T"]])
def test_usage_errors(nmc: Invoke, arguments: list[str]) -> None:
    done = nmc(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error[usage]: ")
    assert "= help: see `nmc" in done.err
    as_json = nmc(*arguments, "--json")
    assert as_json.code == 2
    assert as_json.slugs == ["usage"]
    assert as_json.err == ""


@pytest.mark.parametrize("command", ["compare", "export"])
def test_later_commands_are_refused(nmc: Invoke, command: str) -> None:
    done = nmc(command, "x", "--json")
    assert (done.code, done.slugs) == (2, ["not-available-yet"])
    assert command not in nmc("--help").out


def test_later_options_are_refused(nmc: Invoke) -> None:
    done = nmc("report", "x.nmc", "--png-dir=a", "--json")
    assert (done.code, done.slugs) == (2, ["not-available-yet"])


def test_fast_effort_fits_nothing_to_spikes(nmc: Invoke, model: Path, tmp_path: Path) -> None:
    texts = []
    for effort in ("normal", "fast"):
        out = tmp_path / f"{effort}.nmc"
        assert nmc("compile", model, "--target", "loihi", "-T", "4", "--effort", effort, "-o", out).code == 0
        manifest = Artifact.load(out).manifest
        assert manifest["options"]["effort"] == effort
        texts.append(manifest["pipeline"])
    assert "calibrate-layers{rounds=0,refit=false}" in texts[1] and "refit" not in texts[0]


def test_strict_and_maxpool(nmc: Invoke, model: Path, tmp_path: Path) -> None:
    done = nmc("compile", model, "--target", "loihi", "--maxpool", "mean", "--json")
    assert (done.code, done.slugs) == (2, ["bad-option"])
    out = tmp_path / "x.nmc"
    done = nmc("compile", model, "--target", "loihi", "--strict", "--maxpool", "average", "-o", out, "--json")
    assert done.code == 0 and out.exists()
    assert nmc("check", model, "--strict").code == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--optimise", "temperature"),
        ("--optimise", "energy=0.5,traffic=0.5"),
    ],
)
def test_later_values_are_refused(nmc: Invoke, model: Path, tmp_path: Path, option: str, value: str) -> None:
    out = tmp_path / "x.nmc"
    done = nmc("compile", model, "--target", "loihi", option, value, "-o", out, "--json")
    assert (done.code, done.slugs) == (2, ["not-available-yet"])
    assert not out.exists()


def _raise(error: BaseException) -> object:
    def explode(slug: str) -> object:
        raise error

    return explode


def test_diagnostics_say_what_where_and_help(nmc: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Diagnostic("core-in-axons", "too many", origin=Origin("conv1", "Conv", "relu1"), help="fewer"),
        Diagnostic("layer-silent", "no spike", "warning"),
    ]
    monkeypatch.setattr(explain, "explain", _raise(NmcError(found, ExitCode.DOES_NOT_FIT)))
    done = nmc("explain", "x")
    assert done.code == 4
    assert done.err.splitlines() == [
        "error[core-in-axons]: too many",
        "  --> Conv 'conv1', output 'relu1'",
        "  = help: fewer",
        "warning[layer-silent]: no spike",
        "`nmc explain core-in-axons` says more",
    ]
    assert nmc("explain", "x", "--json").document["diagnostics"][0]["origin"] == {
        "node": "conv1",
        "op": "Conv",
        "output": "relu1",
    }


def test_control_characters_are_escaped(nmc: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    nasty = "a\x1b[2Jb\rc\u202ed\x00"
    found = [Diagnostic("usage", nasty, origin=Origin(nasty, "Conv", "y"), help=nasty)]
    monkeypatch.setattr(explain, "explain", _raise(NmcError(found, ExitCode.USAGE)))
    shown = nmc("explain", "x").err
    assert shown.count(r"a\x1b[2Jb\x0dc\u202ed\x00") == 3
    assert not set(shown) & set("\x1b\r\u202e\x00")
    assert not set(nmc("explain", "x", "--json").out) & set("\x1b\r\u202e\x00")


def test_internal_error_leaves_a_reproducer(nmc: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(explain, "explain", _raise(ZeroDivisionError("oops")))
    done = nmc("explain", "x", "--json")
    assert (done.code, done.slugs) == (70, ["internal-error"])
    path = Path(done.document["reproducer"])
    assert path.parent == tmp_path and str(path) in done.document["diagnostics"][0]["help"]
    with zipfile.ZipFile(path) as archive:
        assert "ZeroDivisionError: oops" in archive.read("traceback.txt").decode()
        assert json.loads(archive.read("command.json")) == ["nmc", "explain", "x", "--json"]
        assert json.loads(archive.read("versions.json"))["nmc"] == __version__
    assert "Traceback" in nmc("explain", "x", "--debug").err


def test_reproducer_holds_the_model_but_no_data(
    nmc: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Path, digits: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("nmc.compiler.driver.compile_file", lambda *a: 1 / 0)
    done = nmc("compile", model, "--target=loihi", "--calib", digits, "-o", tmp_path / "x.nmc", "--json")
    with zipfile.ZipFile(done.document["reproducer"]) as archive:
        names = set(archive.namelist())
    assert names == {"traceback.txt", "command.json", "versions.json", "files/0-digits_cnn.onnx"}


def test_interrupt(nmc: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "explain", _raise(KeyboardInterrupt()))
    done = nmc("explain", "x")
    assert (done.code, done.err) == (130, "error[interrupted]: interrupted\n")
    assert nmc("explain", "x", "--json").slugs == ["interrupted"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
)
def test_file_system_errors_are_usage_errors(
    nmc: Invoke, monkeypatch: pytest.MonkeyPatch, error: OSError, text: str
) -> None:
    monkeypatch.setattr(explain, "explain", _raise(error))
    done = nmc("explain", "x")
    assert done.code == 2
    assert f"error[path-not-usable]: {text}" in done.err
