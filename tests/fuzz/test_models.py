"""Random valid models compile and are right at every level, or are refused by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.fuzz.finds import FINDS
from tests.fuzz.generator import SAMPLES, random_model
from tests.fuzz.judge import judge
from tests.fuzz.oracle import node_outputs
from tests.fuzz.reduction import rebuilt

EVERYDAY = range(40)
OTHERS = range(400, 800)
REFUSED = 0.1


def judged(seeds: range, folder: Path, whole: int) -> Counter[str]:
    verdicts = {seed: judge(random_model(seed), folder, whole=seed % whole == 0) for seed in seeds}
    failed = {seed: verdict.reason for seed, verdict in verdicts.items() if verdict.outcome == "failed"}
    assert not failed
    assert not list(folder.iterdir())
    return Counter(verdict.outcome for verdict in verdicts.values())


def test_random_models(tmp_path: Path) -> None:
    assert judged(EVERYDAY, tmp_path, 20)["refused"] <= REFUSED * len(EVERYDAY)


@pytest.mark.slow
def test_more_random_models(tmp_path: Path) -> None:
    assert judged(OTHERS, tmp_path, 16)["refused"] <= REFUSED * len(OTHERS)


@pytest.mark.parametrize("name", [*FINDS, *(path.stem for path in (Path(__file__).parent / "finds").glob("*.onnx"))])
def test_finds(tmp_path: Path, name: str) -> None:
    """What failed once."""
    stored = Path(__file__).parent / "finds" / f"{name}.onnx"
    model = FINDS[name]() if name in FINDS else onnx.load(stored)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    found = rebuilt(model, np.random.default_rng(8).normal(size=(SAMPLES, *shape)).astype(np.float32))
    assert found is not None
    verdict = judge(found, tmp_path, whole=True)
    assert verdict.outcome == "held", verdict.reason


def test_a_model_depends_on_its_number_alone() -> None:
    for seed in (0, 7, 19):
        first, again = random_model(seed), random_model(seed)
        assert first.model.SerializeToString(deterministic=True) == again.model.SerializeToString(deterministic=True)
        assert np.array_equal(first.x, again.x)
    assert random_model(0).model != random_model(1).model


def test_models_are_of_all_kinds() -> None:
    models = [random_model(seed) for seed in range(200)]
    operators = {node.op_type for model in models for node in model.model.graph.node}
    assert {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "MaxPool", "AveragePool", "GlobalAveragePool",
        "Concat", "Split", "Slice", "Pad", "Gather", "Transpose", "Reshape", "Flatten", "Resize", "Upsample",
        "DepthToSpace", "SpaceToDepth", "ReduceMean", "Clip", "LeakyRelu", "PRelu", "HardSigmoid", "Max", "Min", "Abs",
        "Neg", "Sub", "Sum", "Mul", "Div", "QuantizeLinear", "DequantizeLinear", "Softmax", "ArgMax", "Dropout", "Cast",
        "Constant", "Squeeze", "Unsqueeze", "Shape", "Tile",
    } <= operators  # fmt: skip
    assert {model.model.opset_import[0].version for model in models} >= {6, 7, 9, 11, 13, 17, 18, 22, 26}
    assert {model.model.ir_version for model in models} >= {3, 4, 7, 8, 10, 13}
    assert {len(model.x.shape) for model in models} == {2, 3, 4, 5}
    batches = {_batch(model.model) for model in models}
    assert {"N", "batch_size", "", 1, 2, 4} <= batches
    assert any(len(model.model.graph.output) > 1 for model in models)
    assert any(len(model.model.graph.input) > 1 for model in models)
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for m in models for t in m.model.graph.initializer)


def _batch(model: onnx.ModelProto) -> int | str:
    dim = model.graph.input[0].type.tensor_type.shape.dim[0]
    return dim.dim_value or dim.dim_param


@pytest.mark.parametrize("planted", ["u", "c", "Relu"])
def test_a_wrong_compile_fails(tmp_path: Path, planted: str) -> None:
    """The judge sees a network that computes something a little else: a weight, a bias or an activation."""
    right = rebuilt(FINDS["dead branch with bias"](), np.random.default_rng(9).normal(size=(8, 6)).astype(np.float32))
    assert right is not None
    changed = onnx.ModelProto()
    changed.CopyFrom(right.model)
    for tensor in changed.graph.initializer:
        if tensor.name == planted:
            values = onnx.numpy_helper.to_array(tensor).copy()
            values.flat[0] += 0.01
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for node in changed.graph.node:
        if node.op_type == planted:
            node.op_type = "LeakyRelu"
            node.attribute.append(onnx.helper.make_attribute("alpha", 1e-3))
    verdict = judge(replace(right, model=changed), tmp_path)
    assert verdict.outcome == "failed" and verdict.reason.startswith("import")


def test_the_oracle_runs_single_nodes() -> None:
    node = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    (total,) = node_outputs(node, {"a": np.ones(3, np.float32), "b": np.arange(3, dtype=np.float32)}, 13)
    assert total.tolist() == [1, 2, 3]
