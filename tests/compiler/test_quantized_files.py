"""Files that bring a quantization along: their integers and their scales are those of the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from nmc.backends.api import Options
from nmc.compiler.driver import CompileRequest, compile_file
from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Projection
from nmc.ir.reference import encode
from nmc.kernels.layerwise import execute_network
from tests.compiler.frontends.onnx_models import model_of, saved, session

GRID_STEP = 2
"""Of the weights of Loihi 2."""


def quantized_model(
    folder: Path, scales: tuple[float, float, float], weight_scale: Array, kind: type[np.signedinteger] = np.int8
) -> tuple[Path, dict[str, Array]]:
    """Two convolutions with ReLU, quantized as exporters do it, and the integers of the file.

    Args:
        folder: for the file.
        scales: of the input, and of the values behind each convolution.
        weight_scale: ``()`` or (channels,).
        kind: of the activations.
    """
    rng = np.random.default_rng(3)
    least = np.iinfo(kind).min
    arrays: dict[str, Array] = {
        "w1": rng.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8),
        "w2": rng.integers(-127, 128, (3, 4, 3, 3)).astype(np.int8),
        "ws1": weight_scale.astype(np.float32),
        "ws2": weight_scale.reshape(-1)[:3].astype(np.float32)
        if weight_scale.ndim
        else weight_scale.astype(np.float32),
        "b1": rng.integers(-2000, 2000, 4).astype(np.int32),
        "bs1": (weight_scale * scales[0]).astype(np.float32),
        "s0": np.asarray(scales[0], np.float32),
        "z0": np.asarray(kind(-3 if kind is np.int8 else 0)),
        "s1": np.asarray(scales[1], np.float32),
        "s2": np.asarray(scales[2], np.float32),
        "z": np.asarray(kind(least)),
    }
    axis: dict[str, Any] = {"axis": 0} if weight_scale.ndim else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s0", "z0"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s0", "z0"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w1", "ws1"], ["w1r"], **axis),
        helper.make_node("DequantizeLinear", ["b1", "bs1"], ["b1r"], **axis),
        helper.make_node("Conv", ["xr", "w1r", "b1r"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("QuantizeLinear", ["r1", "s1", "z"], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", "s1", "z"], ["d1"]),
        helper.make_node("DequantizeLinear", ["w2", "ws2"], ["w2r"], **axis),
        helper.make_node("Conv", ["d1", "w2r"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("QuantizeLinear", ["r2", "s2", "z"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s2", "z"], ["y"]),
    ]
    model = model_of(nodes, arrays, ["N", 2, 6, 6], opset=21)
    return saved(model, folder), arrays


def quantized(path: Path, x: Array, *, follow: bool = True) -> tuple[Network, str]:
    """The integer network, and what is said about the file's integers."""
    options = Options(coding="graded", settings={"convert-graded.follow": str(follow).lower()})
    made = compile_file(path, CompileRequest("loihi2", options, calib=x, stop_after="quantize"))
    assert isinstance(made.program, Network)
    (said,) = [d.message for d in made.diagnostics if d.slug == "quantization-imported"]
    return made.program, said


def kernels(network: Network) -> dict[str, Projection]:
    """The projections with the kernels of the file, but for those of what exceeds a range, which is taken away."""
    shapes = {(4, 2, 3, 3): "w1", (3, 4, 3, 3): "w2"}
    first: dict[str, Projection] = {}
    for projection in network.projections:
        shape = projection.connectivity.weight.shape
        if shape in shapes:
            first.setdefault(shapes[shape], projection)
    return first


def samples(scale: float) -> Array:
    """Whole numbers of steps of the input, and some between."""
    return (np.random.default_rng(5).uniform(-100, 100, (24, 2, 6, 6)) * scale).astype(np.float32)


def test_power_of_two_scales_give_the_integers_of_onnx_runtime(tmp_path: Path) -> None:
    scales = (2.0**-5, 2.0**-1, 2.0**3)
    path, arrays = quantized_model(tmp_path, scales, np.asarray(2.0**-7))
    x = samples(scales[0])
    network, said = quantized(path, x)
    assert network.input.scale == scales[0] and (network.input.low, network.input.high) == (-125, 130)
    assert kernels(network).keys() == {"w1", "w2"}
    for number, (name, projection) in enumerate(kernels(network).items()):
        np.testing.assert_array_equal(projection.connectivity.weight, GRID_STEP * arrays[name].astype(np.int64))
        np.testing.assert_array_equal(network.scales[projection.target], scales[number + 1])
    assert "send its integers" in said
    run = execute_network(network, encode(network, x), counts=True)
    wanted = session(path.read_bytes()).run(["y"], {"x": x})[0]
    got = run.readout.reshape(wanted.shape) * np.asarray(network.output.scale).reshape(-1, 1, 1)
    # A sum half-way between two integers is rounded up here and to the even one there.
    assert np.abs(got - wanted).max() <= scales[2]
    assert (got == wanted).mean() > 0.98


@pytest.mark.parametrize("channels", [False, True])
def test_other_scales_keep_the_weights_where_what_they_read_has_one_scale(tmp_path: Path, *, channels: bool) -> None:
    weight_scale = np.array([0.011, 0.007, 0.0093, 0.0123]) if channels else np.asarray(0.0107)
    path, arrays = quantized_model(tmp_path, (0.031, 0.47, 9.3), weight_scale)
    network, _ = quantized(path, samples(0.031), follow=False)
    found = {name: projection.connectivity.weight for name, projection in kernels(network).items()}
    np.testing.assert_array_equal(found["w1"], GRID_STEP * arrays["w1"].astype(np.int64))
    kept = np.array_equal(found["w2"], GRID_STEP * arrays["w2"].astype(np.int64))
    assert kept != channels


def outputs(path: Path, network: Network, x: Array) -> tuple[Array, Array]:
    """Of the integer network, and of ONNX Runtime."""
    (wanted,) = session(path.read_bytes()).run(["y"], {"x": x})
    run = execute_network(network, encode(network, x), counts=True)
    got = run.readout.reshape(wanted.shape) * np.asarray(network.output.scale).reshape(-1, 1, 1)
    return got, wanted


@pytest.mark.parametrize("channels", [False, True])
def test_any_scales_give_the_integers_of_onnx_runtime(tmp_path: Path, *, channels: bool) -> None:
    weight_scale = np.array([0.011, 0.007, 0.0093, 0.0123]) if channels else np.asarray(0.0107)
    path, _ = quantized_model(tmp_path, (0.031, 0.47, 9.3), weight_scale)
    x = samples(0.031)
    network, said = quantized(path, x)
    assert "5 of 5 populations whose values the file quantizes send its integers" in said
    coded = {name: code.scale for name, code in network.codes.items() if name in network.by_name}
    assert len(coded) == 8
    for name, scale in coded.items():
        np.testing.assert_allclose(network.scales[name], scale, rtol=1e-9)
    got, wanted = outputs(path, network, x)
    apart = np.abs(got - wanted) / np.float32(9.3)
    assert apart.max() <= 1.001 and (apart > 0.001).mean() < 0.02
    before, _ = quantized(path, x, follow=False)
    refitted, _ = outputs(path, before, x)
    assert np.square(got - wanted).mean() < 0.25 * np.square(refitted - wanted).mean()


def test_activations_of_16_bits(tmp_path: Path) -> None:
    path, arrays = quantized_model(tmp_path, (2.0**-10, 2.0**-9, 2.0**-6), np.asarray(2.0**-7), np.int16)
    network, _ = quantized(path, samples(2.0**-5))
    assert network.input.scale == 2.0**-10
    first = network.incoming[network.populations[1].name][0]
    np.testing.assert_array_equal(first.connectivity.weight, GRID_STEP * arrays["w1"].astype(np.int64))


def _round_trip(name: str, scale: str, zero: str, **axis: Any) -> list[onnx.NodeProto]:
    """A value, quantized and dequantized: ``name`` becomes ``name_d``."""
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], **axis),
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_d"], **axis),
    ]


def branched_model(folder: Path, kind: type[np.integer], *, by_channel: bool) -> Path:
    """A residual block whose weights have a zero point and whose activations have scales of a channel each.

    Args:
        folder: for the file.
        kind: of the activations between input and output.
        by_channel: one scale for each channel, or one for the tensor.
    """
    rng = np.random.default_rng(11)
    wide = np.iinfo(kind).bits == 16
    unit = 2.0**-8 if wide else 1.0
    scales = rng.uniform(0.4, 0.9, 3) * unit if by_channel else np.asarray(0.63 * unit)
    zeros = rng.integers(90, 140, 3) if by_channel else np.asarray(120)
    stored: dict[str, Array] = {
        "s0": np.asarray(0.05, np.float32),
        "z0": np.asarray(np.int8(3)),
        "ws": np.asarray(0.013, np.float32),
        "wz": np.asarray(np.uint8(77)),
        "w1": rng.integers(0, 256, (3, 2, 3, 3)).astype(np.uint8),
        "w2": rng.integers(0, 256, (3, 3, 3, 3)).astype(np.uint8),
        "s1": scales.astype(np.float32),
        "z1": zeros.astype(kind),
        "s2": np.asarray(1.7 * unit, np.float32),
        "z2": np.asarray(kind(101)),
        "s3": np.asarray(2.1 * unit, np.float32),
        "z3": np.asarray(kind(101)),
    }
    axis: dict[str, Any] = {"axis": 1} if by_channel else {}
    nodes = [
        *_round_trip("x", "s0", "z0"),
        *(helper.make_node("DequantizeLinear", [w, "ws", "wz"], [f"{w}_d"]) for w in ("w1", "w2")),
        helper.make_node("Conv", ["x_d", "w1_d"], ["a"], pads=[1, 1, 1, 1]),
        *_round_trip("a", "s1", "z1", **axis),
        helper.make_node("Conv", ["a_d", "w2_d"], ["b"], pads=[1, 1, 1, 1]),
        *_round_trip("b", "s2", "z2"),
        helper.make_node("Add", ["a_d", "b_d"], ["c"]),
        *_round_trip("c", "s3", "z3"),
        helper.make_node("Identity", ["c_d"], ["y"]),
    ]
    return saved(model_of(nodes, stored, ["N", 2, 6, 6], opset=21), folder)


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_zero_points_axes_and_sums_of_branches(tmp_path: Path, kind: type[np.integer], *, by_channel: bool) -> None:
    path = branched_model(tmp_path, kind, by_channel=by_channel)
    x = samples(0.05)
    network, said = quantized(path, x)
    assert "7 of 7 populations whose values the file quantizes send its integers" in said
    got, wanted = outputs(path, network, x)
    step = 2.1 * (2.0**-8 if kind is np.int16 else 1.0)
    apart = np.abs(got - wanted) / step
    # Weights of twice 8 bits are good for 8 bits of activations, and for a few steps of 16.
    limit, share = (5.01, 0.7) if kind is np.int16 else (1.01, 0.02)
    assert apart.max() <= limit and (apart > 0.01).mean() < share
