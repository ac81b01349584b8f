"""Two files of one network become the same integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.fuzz.generator import RandomModel, random_model
from tests.fuzz.oracle import outputs_of
from tests.fuzz.relations import RELATIONS
from tests.fuzz.trials import try_relation


def related(seeds: range, folder: Path) -> dict[str, int]:
    held = dict.fromkeys(RELATIONS, 0)
    failed: dict[tuple[int, str], str] = {}
    for seed in seeds:
        model = random_model(seed)
        for name in RELATIONS:
            verdict = try_relation(model, name, folder)
            held[name] += verdict.outcome == "held"
            if verdict.outcome == "failed":
                failed[seed, name] = verdict.reason
    assert not failed
    return held


def test_relations(tmp_path: Path) -> None:
    held = related(range(299, 303), tmp_path)
    assert min(held.values()) >= 1


@pytest.mark.slow
def test_more_relations(tmp_path: Path) -> None:
    held = related(range(100), tmp_path)
    # Few networks have two plain convolutions with only a ReLU between them.
    assert held.pop("permuted channels") >= 3 and min(held.values()) >= 30


@pytest.mark.parametrize("name", RELATIONS)
def test_relations_change_the_file_and_not_its_values(name: str) -> None:
    changed = 0
    for seed in (*range(300, 310), 315, 321):
        model = random_model(seed)
        other = RELATIONS[name](np.random.default_rng(seed), model.model)
        if other is model.model or model.model.opset_import[0].version == 6 or model.model is model.twin:
            other = RELATIONS[name](np.random.default_rng(seed), model.twin)
        changed += other.SerializeToString() != model.twin.SerializeToString()
        if other.opset_import[0].version > 6:
            for a, b in zip(outputs_of(other, model.x), model.wanted, strict=True):
                assert np.allclose(a, b, rtol=1e-4, atol=1e-4)
    assert changed >= 2


def test_other_integers_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relation that does change a weight fails."""

    def wrong(rng: np.random.Generator, model: onnx.ModelProto) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        for tensor in made.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            if values.dtype == np.float32 and values.ndim > 1:
                tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.1), tensor.name))
                break
        return made

    monkeypatch.setitem(RELATIONS, "wrong", wrong)
    model: RandomModel = random_model(300)
    assert try_relation(model, "wrong", tmp_path).outcome == "failed"
