"""Networks with several inputs, from the ONNX file to the simulator."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.compiler.frontends.onnx import read_model
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.neurons import Reset
from nmc.ir.reference import encode
from nmc.ir.reference import run as reference_run
from nmc.ir.samples import joined, joined_shape, parted
from nmc.kernels.layerwise import execute_network
from nmc.runtime.artifact import Artifact
from nmc.runtime.data import from_arrays, load_data
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.preprocessing import Preprocessing
from nmc.runtime.simulator import simulate
from tests.compiler.frontends.onnx_models import saved
from tests.compiler.two_inputs import SHAPES, saved_two, two_arrays, two_inputs

PLAIN = Preprocessing()
KINDS = frozenset({"messages", "potentials"})
CODINGS = {
    "spikes": ("loihi2", Options(timesteps=8)),
    "driven by bias": ("loihi1", Options(timesteps=24)),
    "on the host": ("loihi2", Options(timesteps=8, host_input=True)),
    "reset to zero, waiting": ("loihi2", Options(timesteps=6, reset=Reset.ZERO, wait="1")),
    "graded": ("loihi2", Options(coding="graded")),
    "changes": ("loihi2", Options(coding="sigma-delta", timesteps=3)),
}


def compiled(folder: Path, target: str = "loihi2", options: Options | None = None, **changes: Any) -> Artifact:
    request = CompileRequest(target, options or Options(timesteps=8), calib=two_arrays(), **changes)
    artifact = compile_file(saved_two(folder), request).artifact
    assert artifact is not None
    return artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return compiled(tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_computes_its_integers_and_follows_the_file(tmp_path: Path, coding: str) -> None:
    target, options = CODINGS[coding]
    artifact = compiled(tmp_path, target, options)
    network = artifact.network
    assert [spec.name for spec in network.inputs] == ["image", "facts"]
    assert network.input_shape == (network.populations[0].neurons + 5 * (2 if network.inputs[1].split_sign else 1),)
    x = joined(list(two_arrays(12, seed=1).values()))
    inputs = encode(network, x)
    ours, flat = simulate(artifact.routed, inputs, trace=KINDS), execute_network(network, inputs, keep=True)
    for number in range(4):
        wanted = reference_run(network, inputs[number])
        for traced, found in ((wanted.messages, ours.trace.messages), (wanted.potentials, ours.trace.potentials)):
            for name, values in traced.items():
                assert np.array_equal(found[name][number], values), name
        for name, values in wanted.messages.items():
            assert np.array_equal(flat.messages[name][number], values), name
        assert np.array_equal(ours.readout[number], wanted.readout)
    result = artifact.run(two_arrays(12, seed=1))
    float_values = OnnxOracle(artifact.source_onnx).run(x)
    assert np.corrcoef(result.outputs.reshape(-1), float_values.reshape(-1))[0, 1] > 0.9


def test_inputs_are_calibrated_each_by_itself(artifact: Artifact) -> None:
    image, facts = artifact.network.inputs
    assert image.low < 0 and facts.low == 0
    assert facts.scale * facts.high == pytest.approx(float(two_arrays()["facts"].max()))
    assert image.scale * image.high == pytest.approx(float(np.abs(two_arrays()["image"]).max()))


def test_written_and_read_again(artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path / "a.nmc")
    again = Artifact.load(tmp_path / "a.nmc")
    assert again.members() == artifact.members()
    assert again.manifest["format"] == 3 and dict(again.input_shapes) == SHAPES
    with zipfile.ZipFile(tmp_path / "a.nmc") as archive:
        tree = json.loads(archive.read("network.json"))
    assert "input" not in tree and [entry["name"] for entry in tree["inputs"]] == ["image", "facts"]


def test_one_input_is_written_as_before(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], name="fc")]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    made = compile_file(saved(model, tmp_path), CompileRequest("loihi2", Options(timesteps=4))).artifact
    assert made is not None
    members = made.members()
    tree, manifest = json.loads(members["network.json"]), json.loads(members["manifest.json"])
    assert manifest["format"] == 2 and "inputs" not in tree and "name" not in tree["input"]
    x = np.random.default_rng(0).random((3, 4))
    assert np.array_equal(made.run(x).outputs, made.run({"x": x}).outputs)


def test_judged_and_verified(artifact: Artifact) -> None:
    evaluation = artifact.eval(two_arrays(20, seed=2), np.arange(20) % 3)
    assert [stage.stage for stage in evaluation.stages] == ["onnx", "simplified", "spiking", "quantized", "mapped"]
    assert evaluation.stages[1].agreement == 1.0
    verification = artifact.verify(two_arrays(6, seed=3))
    assert verification.ok and {layer.name for layer in verification.layers} >= {"image", "facts", "see", "know"}


def test_unused_inputs_are_left_out_with_a_warning(tmp_path: Path) -> None:
    path = saved_two(tmp_path, unused=True)
    source = read_model(path)
    assert list(source.graph.input_shapes) == ["image", "facts"]
    assert [value.name for value in onnx.load_model_from_string(source.onnx).graph.input] == ["image", "facts"]
    arrays = {**two_arrays(), "mask": np.zeros((24, 7))}
    done = compile_file(path, CompileRequest("loihi2", Options(timesteps=4), calib=arrays))
    assert [d.slug for d in done.diagnostics if d.severity == "warning"][:2] == ["input-unused", "data-array-unused"]
    without = compile_file(saved_two(tmp_path), CompileRequest("loihi2", Options(timesteps=4), calib=two_arrays()))
    assert done.artifact is not None and without.artifact is not None
    assert done.artifact.members()["network.json"] == without.artifact.members()["network.json"]


def test_seeded_inputs_where_there_are_none(tmp_path: Path) -> None:
    made = compile_file(saved_two(tmp_path), CompileRequest("loihi2", Options(timesteps=4)))
    assert any(d.slug == "calibration-missing" and "[0, 1)" in d.message for d in made.diagnostics)
    assert made.artifact is not None and made.artifact.run(two_arrays(2)).outputs.shape == (2, 3)


@pytest.mark.parametrize("batch", [1, 3, "N"])
def test_any_batch(tmp_path: Path, batch: int | str) -> None:
    source = read_model(saved_two(tmp_path, batch=batch))
    x = joined(list(two_arrays(5).values()))
    assert np.array_equal(OnnxOracle(source.onnx).run(x), OnnxOracle(two_inputs().SerializeToString()).run(x))


def test_order_and_names_are_those_of_the_file(tmp_path: Path) -> None:
    """A later pass may visit the inputs in another order; a node may be called like an input."""
    model = two_inputs()
    first, second = model.graph.input[0], model.graph.input[1]
    turned = [second, first]
    values = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in turned]
    del model.graph.input[:]
    model.graph.input.extend(values)
    model.graph.node[3].name = "image"
    source = read_model(saved(model, tmp_path))
    assert list(source.graph.input_shapes) == ["facts", "image"]
    done = compile_file(tmp_path / "model.onnx", CompileRequest("loihi2", Options(timesteps=8), calib=two_arrays()))
    assert done.artifact is not None
    assert [spec.name for spec in done.artifact.network.inputs] == ["facts", "image"]
    wanted = compiled(tmp_path).run(two_arrays(4)).outputs
    assert np.allclose(done.artifact.run(two_arrays(4)).outputs, wanted, atol=0.1)


# Data


def refused(x: Any, y: Any = None, preprocess: Preprocessing = PLAIN) -> NmcError:
    with pytest.raises(NmcError) as caught:
        from_arrays(x, y, SHAPES, preprocess)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value


def test_data_of_a_file(tmp_path: Path) -> None:
    arrays = two_arrays(7)
    np.savez(tmp_path / "d.npz", **arrays, y=np.arange(7) % 3, y_aux=np.arange(7) / 2)
    data = load_data(f"{tmp_path}/d.npz:5", SHAPES, PLAIN)
    assert data.x.shape == (5, 77) and data.x.dtype == np.float32
    for part, values in zip(parted(data.x, list(SHAPES.values())), arrays.values(), strict=True):
        assert np.array_equal(part, values[:5])
    assert data.y is not None and data.y.tolist() == [0, 1, 2, 0, 1] and list(data.named) == ["aux"]
    same = from_arrays(arrays, None, SHAPES, PLAIN)
    assert np.array_equal(same.x[:5], data.x) and same.hash == load_data(f"{tmp_path}/d.npz", SHAPES, PLAIN).hash
    assert same.hash != from_arrays(two_arrays(7, seed=9), None, SHAPES, PLAIN).hash


def test_an_input_may_be_called_like_labels(tmp_path: Path) -> None:
    shapes = {"x": (2,), "y": (3,)}
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 2)), y=np.ones((4, 3)), y_out=np.arange(4))
    data = load_data(f"{tmp_path}/d.npz", shapes, PLAIN)
    assert data.y is None and list(data.named) == ["out"] and data.x.sum() == 12


def test_everything_that_is_wrong_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", imag=np.zeros((3, 2, 6, 6)), facts=np.zeros((4, 6)), more=np.zeros(3))
    with pytest.raises(NmcError) as caught:
        load_data(f"{tmp_path}/d.npz", SHAPES, PLAIN)
    found = caught.value.diagnostics
    assert [d.slug for d in found] == ["data-key", "data-key", "data-key", "data-shape"]
    assert "no array 'image' (N, 2, 6, 6)" in found[0].message and "is it 'imag'?" in found[0].help
    assert "'imag'" in found[1].message and "'more'" in found[2].message
    assert "(4, 6)" in found[3].message and "(N, 5)" in found[3].message


def test_data_that_does_not_fit() -> None:
    arrays = two_arrays(3)
    several = refused({**arrays, "facts": arrays["facts"][:2]})
    assert "'image' has 3, 'facts' has 2" in str(several)
    assert refused({**arrays, "facts": np.full((3, 5), np.inf)}).diagnostics[0].slug == "data-not-finite"
    assert refused({**arrays, "facts": np.full((3, 5), "a")}).diagnostics[0].slug == "data-type"
    assert "facts[None]" in refused({"image": arrays["image"][:1], "facts": arrays["facts"][0]}).diagnostics[0].help
    one = refused(arrays["image"])
    assert (
        one.diagnostics[0].slug == "data-key" and "2 inputs" in str(one) and "'facts' (N, 5)" in one.diagnostics[0].help
    )
    assert "3 samples" in str(refused(arrays, np.arange(4)))


def test_files_of_one_array_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2, 6, 6)))
    (tmp_path / "images" / "a").mkdir(parents=True)
    for name in ("x.npy", "images"):
        with pytest.raises(NmcError, match="one array; the network has 2 inputs") as caught:
            load_data(f"{tmp_path}/{name}", SHAPES, PLAIN)
        assert "'image' (N, 2, 6, 6), 'facts' (N, 5)" in caught.value.diagnostics[0].help


def test_random_data_in_the_range_of_each_input() -> None:
    data = load_data("random:50", SHAPES, PLAIN, seed=4, value_ranges=((-2.0, -1.0), (5.0, 6.0)))
    image, facts = parted(data.x, list(SHAPES.values()))
    assert -2 <= image.min() < image.max() < -1 and 5 <= facts.min() < facts.max() < 6
    assert "[-2, -1), [5, 6)" in data.warnings[0].message


def test_preprocessing_is_for_images() -> None:
    steps = Preprocessing.parse("scale=1/2,mean=1|2,layout=NHWC")
    arrays = two_arrays(3)
    turned = {**arrays, "image": np.moveaxis(arrays["image"], 1, -1)}
    image, facts = parted(from_arrays(turned, None, SHAPES, steps).x, list(SHAPES.values()))
    assert np.array_equal(facts, arrays["facts"])
    mean = np.array([1, 2]).reshape(2, 1, 1)
    assert np.allclose(image, arrays["image"] / 2 - mean)
    assert "layout" not in str(refused(arrays, preprocess=steps).diagnostics[0].help)


def test_preprocessing_that_fits_no_input_is_refused() -> None:
    error = refused(two_arrays(3), preprocess=Preprocessing.parse("mean=1|2|3|4"))
    assert error.diagnostics[0].slug == "preprocess-invalid" and "'image' has 2 channels" in str(error)
    shapes = {"a": (4,), "b": (5,)}
    with pytest.raises(NmcError, match="none is one") as caught:
        from_arrays({"a": np.zeros((2, 4)), "b": np.zeros((2, 5))}, None, shapes, Preprocessing(scale=2.0))
    assert "'a' (N, 4), 'b' (N, 5)" in str(caught.value)


def test_joined_samples() -> None:
    shapes = [(2, 3), (4,), (1, 1, 2)]
    parts = [np.random.default_rng(n).random((5, *shape)) for n, shape in enumerate(shapes)]
    assert joined_shape(shapes) == (12,) and joined(parts).shape == (5, 12)
    for part, back in zip(parts, parted(joined(parts), shapes), strict=True):
        assert np.array_equal(part, back)
    assert joined(parts[:1]) is parts[0] and joined_shape(shapes[:1]) == (2, 3)
