"""Networks with several outputs, and networks that compute values instead of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nmc.backends.api import Options
from nmc.compiler.driver import Compiled, CompileRequest, compile_file
from nmc.compiler.frontends.onnx import check_model
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.neurons import Graded, Integrator
from nmc.ir.reference import encode
from nmc.ir.reference import run as reference_run
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Execution
from nmc.runtime.gate import check_gate
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.report import render_report
from nmc.runtime.session import run
from nmc.runtime.simulator import Simulator
from tests.compiler.frontends.onnx_models import saved

CODINGS = {"rate": Options(timesteps=64), "graded": Options(coding="graded")}
RNG = np.random.default_rng(11)
IMAGES = RNG.random((64, 1, 6, 6)).astype(np.float32)
VECTORS = RNG.random((64, 12)).astype(np.float32)


def weights(*shape: int, seed: int) -> Any:
    scale = np.sqrt(2 / np.prod(shape[1:]))
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto], stored: dict[str, Any], shape: Sequence[int | str], outputs: dict[str, int]
) -> onnx.ModelProto:
    """A model with the input ``x``; outputs by name, with their types."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def two_heads() -> onnx.ModelProto:
    """Probabilities, a score, the features in the middle and the logits: four outputs of one trunk."""
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["features"]),
        helper.make_node("Flatten", ["features"], ["f"]),
        helper.make_node("Gemm", ["f", "b", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("Gemm", ["f", "d"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "e"], ["score"], transB=1),
    ]
    stored = {
        "a": weights(4, 1, 3, 3, seed=1),
        "b": weights(3, 144, seed=2),
        "bias": np.zeros(3, np.float32),
        "d": weights(16, 144, seed=3),
        "e": weights(1, 16, seed=4),
    }
    names = ("probabilities", "score", "features", "logits")
    model = model_of(nodes, stored, ["N", 1, 6, 6], dict.fromkeys(names, TensorProto.FLOAT))
    logits = OnnxOracle(model.SerializeToString()).outputs(IMAGES)[3]
    stored["bias"] = -np.median(logits, axis=0)
    return model_of(nodes, stored, ["N", 1, 6, 6], dict.fromkeys(names, TensorProto.FLOAT))


def values_only(outputs: int, last: str = "") -> onnx.ModelProto:
    """Twelve numbers to ``outputs`` numbers."""
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b"], ["g" if last else "y"], transB=1),
    ]
    if last:
        nodes.append(helper.make_node(last, ["g"], ["y"]))
    stored = {"a": weights(24, 12, seed=5), "b": weights(outputs, 24, seed=6)}
    return model_of(nodes, stored, ["N", 12], {"y": TensorProto.FLOAT})


def compiled_on(model: onnx.ModelProto, folder: Path, coding: str, **arrays: Any) -> Compiled:
    np.savez(folder / "data.npz", **arrays)
    return compile_file(saved(model, folder), CompileRequest("loihi2", CODINGS[coding], calib=str(folder / "data.npz")))


def of(compiled: Compiled) -> Artifact:
    assert compiled.artifact is not None
    return compiled.artifact


@pytest.mark.parametrize("coding", CODINGS)
def test_four_outputs_from_file_to_chip(tmp_path: Path, coding: str) -> None:
    model = two_heads()
    wanted = OnnxOracle(model.SerializeToString()).outputs(IMAGES)
    classes = wanted[0].argmax(axis=1)
    assert len(set(classes.tolist())) > 1
    compiled = compiled_on(model, tmp_path, coding, x=IMAGES, y=classes, y_score=wanted[1] + 0.1)
    artifact = of(compiled)
    network = artifact.network
    assert [spec.name for spec in network.outputs] == ["probabilities", "score", "features", "logits"]
    assert [spec.head for spec in network.outputs] == ["softmax", "", "", ""]
    assert [spec.shape for spec in network.outputs] == [(3,), (1,), (4, 6, 6), (3,)]
    # Two outputs read one population; what is computed further from is read by a population of its own.
    assert network.outputs[0].population == network.outputs[3].population
    middle = network.by_name[network.outputs[2].population]
    assert isinstance(middle.neuron, Integrator if coding == "rate" else Graded) and not network.outgoing[middle.name]

    result = run(artifact, IMAGES, Simulator())
    for found, tensor in zip(result.values, wanted, strict=True):
        assert found.shape == tensor.shape
        assert np.sqrt(np.square(found - tensor).mean()) < 0.1 * np.sqrt(np.square(tensor).mean())
    assert list(result.by_output) == ["probabilities", "score", "features", "logits"]
    assert result.answers is not None and (result.answers == classes).mean() >= 0.9

    evaluation = compiled.accuracy
    assert evaluation is not None
    assert [(o.name, o.by_class, o.against) for o in evaluation.outputs] == [
        ("probabilities", True, "onnx"),
        ("score", False, "labels"),
        ("features", False, "onnx"),
        ("logits", True, "onnx"),
    ]
    for output in evaluation.outputs:
        quantized, mapped = output.stage("quantized"), output.stage("mapped")
        assert quantized is not None and mapped is not None and quantized.nrmse == mapped.nrmse > 0
    first, score = evaluation.outputs[0].stages, evaluation.outputs[1].stages
    assert first[0].top1 == 1.0 and (first[-1].top1 or 0) >= 0.9
    assert score[0].top1 is None and score[0].agreement is None
    own = np.sqrt(np.square(0.1).mean() / np.square(wanted[1] + 0.1).mean())
    assert score[0].nrmse == pytest.approx(own, rel=1e-4)
    assert artifact.verify(IMAGES[:6]).ok
    page = render_report(artifact, evaluation)
    for words in (
        "Top-1 accuracy of",
        "Normalised error against the labels of",
        "against onnx",
        "&#x27;features&#x27;",
    ):
        assert words in page, words


@pytest.mark.parametrize("coding", CODINGS)
def test_every_read_out_is_the_references(tmp_path: Path, coding: str) -> None:
    artifact = of(compiled_on(two_heads(), tmp_path, coding, x=IMAGES))
    inputs = encode(artifact.network, IMAGES[:2])
    done = Simulator().execute(artifact, inputs)
    for number, sample in enumerate(inputs):
        trace = reference_run(artifact.network, sample)
        assert len(trace.readouts) == len(done.readouts) == 4
        for ours, theirs in zip(done.readouts, trace.readouts, strict=True):
            assert np.array_equal(ours[number], theirs)
    artifact.save(tmp_path / "a.nmc")
    again = Simulator().execute(Artifact.load(tmp_path / "a.nmc"), inputs)
    assert all(np.array_equal(a, b) for a, b in zip(done.readouts, again.readouts, strict=True))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("last", ["", "Sigmoid"])
def test_a_reconstruction_has_no_classes(tmp_path: Path, coding: str, last: str) -> None:
    artifact = of(compiled_on(values_only(12, last), tmp_path, coding, x=VECTORS))
    alone, held = artifact.eval(VECTORS), artifact.eval(VECTORS, VECTORS)
    assert (alone.outputs[0].by_class, alone.outputs[0].against) == (False, "onnx")
    assert (held.outputs[0].by_class, held.outputs[0].against) == (False, "labels")
    onnx, mapped = held.stages[0], held.stages[-1]
    reconstructed = OnnxOracle(artifact.source_onnx).run(VECTORS)
    error = np.sqrt(np.square(reconstructed - VECTORS).sum() / np.square(VECTORS).sum())
    assert onnx.nrmse == pytest.approx(error, rel=1e-5) and onnx.top1 is None and onnx.agreement is None
    assert alone.stages[0].nrmse == 0 < alone.stages[-1].nrmse < 0.1
    grown = 100 * (mapped.nrmse / onnx.nrmse - 1)
    assert not check_gate(held, max(grown, 0) + 0.01)
    if grown > 0.02:
        assert check_gate(held, grown - 0.01)
    assert len(held.curve) == artifact.network.timesteps and held.curve[-1].nrmse == mapped.nrmse
    result = artifact.run(VECTORS[:3])
    assert result.answers is None and "mean output" in str(result)
    assert "against the labels" in str(held) and "against onnx" in str(alone)
    assert "Normalised error against the labels" in render_report(artifact, held)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_single_linear_output(tmp_path: Path, coding: str) -> None:
    wanted = OnnxOracle(values_only(1).SerializeToString()).run(VECTORS)
    compiled = compiled_on(values_only(1), tmp_path, coding, x=VECTORS, y=wanted[:, 0] * 1.1)
    assert compiled.accuracy is not None
    (output,) = compiled.accuracy.outputs
    assert (
        not output.by_class and output.against == "labels" and output.stages[0].nrmse == pytest.approx(1 / 11, rel=1e-3)
    )
    document = compiled.to_dict()
    assert [row["top1"] for row in document["accuracy"]] == [None] * 5  # type: ignore[attr-defined]
    assert document["accuracy_outputs"][0]["against"] == "labels"  # type: ignore[index]
    result = of(compiled).run(VECTORS)
    assert np.sqrt(np.square(result.outputs - wanted).mean()) < 0.1 * np.sqrt(np.square(wanted).mean())


def test_labels_decide_what_an_output_is(tmp_path: Path) -> None:
    artifact = of(compiled_on(values_only(12), tmp_path, "graded", x=VECTORS))
    classes = OnnxOracle(artifact.source_onnx).run(VECTORS).argmax(axis=1)
    judged = artifact.eval(VECTORS, classes)
    assert judged.outputs[0].by_class and judged.stages[0].top1 == 1.0
    for wrong, words in ((VECTORS[:, :5], r"\(64, 5\)"), (classes + 0.5, "real numbers"), (classes + 9, "0 to 11")):
        with pytest.raises(NmcError, match=words) as caught:
            artifact.eval(VECTORS, wrong)
        assert caught.value.exit_code is ExitCode.USAGE and caught.value.diagnostics[0].slug == "data-labels"


def test_labels_of_no_output_are_named(tmp_path: Path) -> None:
    y = np.zeros((64, 1))
    compiled = compiled_on(values_only(1), tmp_path, "graded", x=VECTORS, y=y, y_y=y, y_z=y)
    (warning,) = [d for d in compiled.diagnostics if d.slug == "data-labels-unused"]
    assert "'y_z', 'y'" in warning.message and warning.severity == "warning"


def test_ends_that_a_network_cannot_have(tmp_path: Path) -> None:
    good = helper.make_node("Gemm", ["x", "a"], ["y"], transB=1)
    stored = {"a": weights(3, 12, seed=1), "k": np.ones((1, 2), np.float32)}

    def problems(nodes: list[onnx.NodeProto], outputs: list[str]) -> str:
        model = model_of(nodes, stored, ["N", 12], dict.fromkeys(outputs, TensorProto.FLOAT))
        return "; ".join(d.message for d in check_model(saved(model, tmp_path)).diagnostics if d.severity == "error")

    assert problems([good], ["y"]) == ""
    assert "no output" in problems([good], [])
    constant = helper.make_node("Identity", ["k"], ["c"])
    assert "'c' does not depend on an input" in problems([good, constant], ["y", "c"])
    softmax = helper.make_node("Softmax", ["y"], ["p"], axis=-1)
    assert problems([good, softmax, helper.make_node("Identity", ["p"], ["q"])], ["p", "q", "y"]) == ""
    assert "softmax" in problems([good, softmax, helper.make_node("Relu", ["p"], ["q"])], ["p", "q"])
    twice = model_of([good], stored, ["N", 12], {"y": TensorProto.FLOAT})
    twice.graph.output.append(twice.graph.output[0])
    assert "share a name" in check_model(saved(twice, tmp_path)).diagnostics[0].message
    through = model_of([good, helper.make_node("Identity", ["x"], ["z"])], stored, ["N", 12], {"y": 1, "z": 1})
    done = compile_file(saved(through, tmp_path), CompileRequest("loihi2", CODINGS["graded"], calib=VECTORS))
    assert done.artifact is not None
    assert np.allclose(run(done.artifact, VECTORS, Simulator()).values[1], VECTORS, atol=0.01)


class Wrong(Simulator):
    """The simulator with one value of one read-out changed."""

    def execute(self, artifact: Artifact, inputs: Any, *, trace: frozenset[str] = frozenset()) -> Execution:
        done = super().execute(artifact, inputs, trace=trace)
        done.readouts[1][1, 0] += 1
        return done


def test_a_difference_in_another_output_is_named(tmp_path: Path) -> None:
    artifact = of(compiled_on(two_heads(), tmp_path, "graded", x=IMAGES))
    exact = artifact.verify(IMAGES[:2], device=Wrong()).bit_exact
    assert exact is not None and not exact.spikes_equal and exact.first is not None
    assert (exact.first.population, exact.first.sample) == (artifact.network.outputs[1].population, 1)
    assert artifact.verify(IMAGES[:2], device=Simulator()).bit_exact.spikes_equal  # type: ignore[union-attr]


@pytest.mark.lava
@pytest.mark.parametrize("coding", CODINGS)
def test_lava_gives_every_output(tmp_path: Path, coding: str) -> None:
    from nmc.backends.loihi.lava_run import LavaDevice

    options = {"rate": Options(timesteps=8), "graded": CODINGS["graded"]}[coding]
    np.savez(tmp_path / "data.npz", x=IMAGES)
    request = CompileRequest("loihi2", options, calib=str(tmp_path / "data.npz"))
    artifact = of(compile_file(saved(two_heads(), tmp_path), request))
    inputs = encode(artifact.network, IMAGES[:3])
    ours, theirs = Simulator().execute(artifact, inputs), LavaDevice().execute(artifact, inputs)
    assert len(theirs.readouts) == 4
    assert all(np.array_equal(a, b) for a, b in zip(ours.readouts, theirs.readouts, strict=True))
    exact = artifact.verify(IMAGES[:2], device=LavaDevice()).bit_exact
    assert exact is not None and exact.spikes_equal and exact.potentials_equal
