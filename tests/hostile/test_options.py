"""Options that make no sense: all of them at once, before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.invoke import Invoke


@pytest.mark.parametrize(
    ("options", "slug"),
    [
        (["-T", "0"], "bad-option"),
        (["-T", "-3"], "bad-option"),
        (["-T", "x"], "usage"),
        (["-T", "99999999999999999999999"], "bad-option"),
        (["--seed", "-1"], "bad-option"),
        (["--chips", "0"], "bad-option"),
        (["--chips", "100000"], "chips-out-of-range"),
        (["--weight-bits", "0"], "bad-option"),
        (["--weight-bits", "99"], "bad-option"),
        (["--seed", "99999999999999999999999"], "bad-option"),
        (["--coding", "rat"], "bad-option"),
        (["--coding", ""], "bad-option"),
        (["--reset", "soft"], "bad-option"),
        (["--verify", "yes"], "bad-option"),
        (["--stop-after", "plaice"], "bad-option"),
        (["--partitioner", "no-such"], "unknown-partitioner"),
        (["--placer", "no-such"], "unknown-placer"),
        (["--set", "junk"], "bad-option"),
        (["--set", "no-such-pass.bits=3"], "option-unknown"),
        (["--set", "quantize-rate.nope=3"], "option-unknown"),
        (["--preprocess", "scale=oops"], "preprocess-invalid"),
        (["--preprocess", "color=red"], "preprocess-invalid"),
        (["--require-calib"], "calibration-required"),
        (["--config", "missing.toml"], "config-unreadable"),
        (["--calib", "missing.npz"], "path-not-readable"),
    ],
)
def test_compile(nmc: Invoke, model: Path, options: list[str], slug: str) -> None:
    done = nmc("compile", model, "--target", "loihi", *options, "--json")
    assert done.code == 2, done.out
    assert slug in done.slugs
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("target", "slug", "code"),
    [
        ("lohi", "target-unknown", 2),
        ("loihi3", "target-unknown", 2),
        ("", "target-unknown", 2),
        ("missing.toml", "target-unreadable", 2),
        ("other:loihi2", "backend-unknown", 2),
        ("loihi:loihi9", "target-unknown", 2),
        ("../loihi2", "target-unknown", 2),
    ],
)
@pytest.mark.parametrize("command", ["compile", "check"])
def test_targets(nmc: Invoke, model: Path, command: str, target: str, slug: str, code: int) -> None:
    done = nmc(command, model, "--target", target, "--json")
    assert (done.code, done.slugs[0]) == (code, slug)
    assert os.listdir() == []


def test_the_nearest_target_is_named(nmc: Invoke, model: Path) -> None:
    assert "did you mean 'loihi'?" in nmc("compile", model, "--target", "lohi").err


def test_all_problems_at_once(nmc: Invoke) -> None:
    done = nmc("compile", "no.onnx", "--target", "loihi", "-T", "0", "--coding", "x", "--set", "y", "--json")
    assert done.code == 2
    assert done.slugs == ["path-not-readable", "bad-option", "bad-option", "bad-option"]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("timesteps = 0\n", "bad-option"),
        ("timestep = 4\n", "config-unknown-key"),
        ("timesteps = [1]\n", "config-value"),
        ("timesteps = 'x'\n", "usage"),
        ("timesteps =\n", "config-unreadable"),
        ("\x00", "config-unreadable"),
        ("set = 3\n", "bad-option"),
    ],
)
def test_config(nmc: Invoke, model: Path, tmp_path: Path, text: str, slug: str) -> None:
    path = tmp_path / "nmc.toml"
    path.write_text(text)
    done = nmc("compile", model, "--target", "loihi", "--config", path, "--json")
    assert done.code == 2
    assert slug in done.slugs, done.out


@pytest.mark.parametrize(
    ("arguments", "code", "slug"),
    [
        (["run", "--data", "random:1", "--on", "lav"], 2, "device-unknown"),
        (["run", "--data", "random:1", "--on", "board"], 2, "device-unknown"),
        (["run", "--data", "random:1", "--trace", "spikes"], 2, "bad-option"),
        (["run", "--data", "random:1", "--trace", "noc", "-o", "x"], 2, "not-available-yet"),
        (["run", "--data", "random:1", "--trace", "smells", "-o", "x"], 2, "bad-option"),
        (["run"], 2, "usage"),
        (["eval", "--data", "random:1", "--samples", "0"], 2, "bad-option"),
        (["eval", "--data", "random:1", "--gate", "-1"], 2, "bad-option"),
        (["eval", "--data", "random:1", "--gate", "nan"], 2, "bad-option"),
        (["eval", "--data", "random:1", "--workers", "0"], 2, "bad-option"),
        (["eval", "--data", "random:1", "--cluster", "tcp://x"], 2, "not-available-yet"),
        (["verify", "--samples", "0"], 2, "bad-option"),
        (["report", "--png-dir", "x"], 2, "not-available-yet"),
    ],
)
def test_artifacts(nmc: Invoke, artifact: Path, arguments: list[str], code: int, slug: str) -> None:
    done = nmc(arguments[0], artifact, *arguments[1:], "--json")
    assert (done.code, done.slugs) == (code, [slug])
    assert os.listdir() == []
