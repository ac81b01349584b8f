"""Mutants of valid models: accepted and right, or refused; no traceback, no hang, nothing left behind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from tests.fuzz import sandbox as sandbox_module
from tests.fuzz.generator import random_model
from tests.fuzz.judge import Verdict
from tests.fuzz.mutants import STRUCTURE, mutant
from tests.fuzz.sandbox import Sandbox
from tests.fuzz.trials import try_mutant


def tried(seeds: range, each: int, folder: Path, attempt: Callable[[bytes], Verdict]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    failed: dict[tuple[int, int], str] = {}
    for seed in seeds:
        model = random_model(seed).model
        for number in range(each):
            verdict = try_mutant(mutant(model, seed * 100 + number), folder)
            outcomes[verdict.outcome] += 1
            if verdict.outcome == "failed":
                failed[seed, number] = verdict.reason
    assert not failed
    assert not list(folder.iterdir())
    return outcomes


def test_mutants(tmp_path: Path) -> None:
    outcomes = tried(range(200, 225), 8, tmp_path, lambda data: try_mutant(data, tmp_path))
    assert outcomes["refused"] > 50 and outcomes["accepted"] > 20


@pytest.mark.slow
def test_more_mutants(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as sandbox:
        tried(range(40, 140), 10, tmp_path, sandbox.try_mutant)


def _abort(data: bytes, folder: Path) -> Verdict:
    os.abort()


def test_a_mutant_that_ends_its_process_is_judged_behind_the_door(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_module, "_try", _abort)
    good = random_model(200).model
    with Sandbox(tmp_path) as sandbox:
        assert sandbox.try_mutant(b"no model at all").outcome == "refused"
        monkeypatch.undo()
        assert sandbox.try_mutant(good.SerializeToString()).outcome == "accepted"
    assert not list(tmp_path.iterdir())


def test_mutants_differ_and_can_be_made_again() -> None:
    model = random_model(200).model
    made = [mutant(model, seed) for seed in range(60)]
    assert made == [mutant(model, seed) for seed in range(60)]
    assert len(set(made)) > 50
    parsed = 0
    for data in made:
        try:
            onnx.load_model_from_string(data)
            parsed += 1
        except Exception:  # protobuf raises a class of its own
            continue
    assert parsed > 30


def test_every_kind_of_mutation_changes_something() -> None:
    import numpy as np

    model = random_model(205).model
    for mutation in STRUCTURE:
        changed = False
        for seed in range(20):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            try:
                mutation(np.random.default_rng(seed), copy)
            except (IndexError, ValueError):
                continue
            changed = changed or copy.SerializeToString() != model.SerializeToString()
        assert changed, mutation.__name__


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "finds").glob("*.mutant")), ids=lambda path: path.stem)
def test_finds(tmp_path: Path, path: Path) -> None:
    """Files that once made a traceback or a warning of a library."""
    assert try_mutant(path.read_bytes(), tmp_path).outcome != "failed"
