"""``nmc explore`` and ``compile --coding auto``."""

from __future__ import annotations

from pathlib import Path

from nmc.runtime.artifact import Artifact
from tests.cli.invoke import Invoke


def test_explore_says_what_it_took_and_how_to_compile_it(
    nmc: Invoke, model: Path, digits: Path, tmp_path: Path
) -> None:
    calib, folder, out = f"{digits}:40", tmp_path / "found", tmp_path / "x.nmc"
    arguments = ["explore", model, "--target", "loihi", "--calib", calib, "-T", "4", "--vary", "coding=rate|graded"]
    done = nmc(*arguments, "--trials", "3", "--workers", "1", "--max-loss", "50", "-o", folder)
    assert done.code == 0, done.err
    assert "Pareto set on loihi2" in done.out and "taken" in done.out
    assert f"nmc compile {model} --config {folder}/nmc.toml" in done.out
    assert nmc("compile", model, "--config", folder / "nmc.toml", "-o", out).code == 0
    taken = nmc(*arguments, "--trials", "3", "--workers", "1", "--max-loss", "50", "-o", folder, "--json").document
    assert taken["chosen"]["options"]["coding"] == Artifact.load(out).manifest["options"]["coding"]
    assert sorted(path.name for path in folder.iterdir()) == ["nmc.toml", "pareto.svg", "trials.journal", "trials.json"]


def test_wrong_options_of_explore_are_named_at_once(nmc: Invoke, model: Path, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = nmc(
        "explore", model, "--target", "loihi", "--calib", digits, "--objective", "speed", "--trials", "0",
        "--workers", "0", "--max-loss=-1", "-o", tmp_path / "file", "--json",
    )  # fmt: skip
    assert done.code == 2 and done.slugs == ["bad-option"] * 4 + ["path-not-writable"]


def test_coding_auto_says_why(nmc: Invoke, model: Path, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.nmc"
    given = ["compile", model, "--target", "loihi", "--coding", "auto", "-T", "4", "-o", out]
    done = nmc(*given, "--calib", f"{digits}:40", "--max-loss", "50")
    assert done.code == 0 and "the least energy of what loses at most 50 points" in done.err
    taken = Artifact.load(out).manifest["options"]["coding"]
    assert f"took coding {taken}" in done.err
    missing = nmc(*given, "--json")
    assert (missing.code, missing.slugs) == (2, ["calibration-required"])


def test_max_loss_is_for_auto(nmc: Invoke, model: Path) -> None:
    for given in (["--max-loss", "1"], ["--coding", "auto", "--max-loss=-2"]):
        done = nmc("compile", model, "--target", "loihi", *given, "--json")
        assert (done.code, done.slugs) == (2, ["bad-option"])
