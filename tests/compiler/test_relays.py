"""Linear values with neurons of their own, from ONNX file to mapped program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, helper

from nmc.backends.api import Options
from nmc.compiler.driver import Compiled, CompileRequest, compile_file
from nmc.ir.network import Network
from nmc.ir.neurons import Graded, SigmaDelta
from nmc.runtime.verification import verify
from tests.compiler.frontends.onnx_models import model_of, original_output, saved

LAYERS, GROWTH, SIDE = 6, 4, 6


def dense_block(folder: Path) -> Path:
    """A dense block as exporters write it: norm, ReLU and convolution of all that was made before."""
    rng = np.random.default_rng(2)
    stored: dict[str, NDArray[np.float32]] = {}

    def weights(name: str, *shape: int) -> str:
        stored[name] = (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        return name

    def norm(name: str, channels: int) -> list[str]:
        values = {
            "scale": rng.uniform(0.5, 1.5, channels),
            "shift": rng.normal(size=channels) * 0.3,
            "mean": rng.normal(size=channels) * 0.2,
            "variance": rng.uniform(0.5, 1.5, channels),
        }
        stored.update({f"{name}.{key}": value.astype(np.float32) for key, value in values.items()})
        return [f"{name}.{key}" for key in values]

    nodes: list[NodeProto] = [helper.make_node("Conv", ["x", weights("w", 8, 2, 3, 3)], ["v0"], pads=[1] * 4)]
    channels = 8
    for number in range(LAYERS + 1):
        joined = f"j{number}"
        nodes += [
            helper.make_node("Concat", [f"v{k}" for k in range(number + 1)], [joined], axis=1),
            helper.make_node("BatchNormalization", [joined, *norm(f"n{number}", channels)], [f"b{number}"]),
            helper.make_node("Relu", [f"b{number}"], [f"r{number}"]),
        ]
        if number < LAYERS:
            kernel = weights(f"k{number}", GROWTH, channels, 3, 3)
            nodes.append(helper.make_node("Conv", [f"r{number}", kernel], [f"v{number + 1}"], pads=[1] * 4))
            channels += GROWTH
    nodes += [
        helper.make_node("GlobalAveragePool", [f"r{LAYERS}"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", weights("last", 5, channels)], ["y"], transB=1),
    ]
    return saved(model_of(nodes, dict(stored), ["N", 2, SIDE, SIDE]), folder)


def compiled(path: Path, x: NDArray[np.float32], options: Options) -> Compiled:
    return compile_file(path, CompileRequest("loihi2", options, calib=x))


def relays(network: Network) -> list[str]:
    """Populations that send linear values, and are heard."""
    return [
        p.name
        for p in network.populations
        if (isinstance(p.neuron, Graded) or (isinstance(p.neuron, SigmaDelta) and not p.neuron.rectify))
        and network.outgoing[p.name]
    ]


@pytest.mark.parametrize("coding", ["graded", "sigma-delta"])
def test_every_layer_of_a_dense_block_is_within_its_bound(tmp_path: Path, coding: str) -> None:
    path = dense_block(tmp_path)
    x = np.random.default_rng(5).random((24, 2, SIDE, SIDE)).astype(np.float32)
    made = compiled(path, x[:16], Options(coding=coding, timesteps=4))
    assert made.artifact is not None
    network = made.artifact.network
    assert len(relays(network)) >= 2
    result = verify(made.artifact, x[16:])
    assert result.ok, result.diagnostics
    # A relay is compared with the tensor of the file, like every layer.
    assert {network.by_name[name].origin.op for name in relays(network)} == {"Conv"}
    assert set(relays(network)) <= {layer.name for layer in result.layers}
    output = next(layer for layer in result.layers if layer.name == network.output.population)
    wanted = original_output(onnx.load(path), x[16:])
    assert output.rmse < 0.02 * float(np.sqrt(np.square(wanted).mean()))


def test_rate_coding_has_no_relays(tmp_path: Path) -> None:
    x = np.random.default_rng(5).random((8, 2, SIDE, SIDE)).astype(np.float32)
    made = compiled(dense_block(tmp_path), x, Options(timesteps=8, effort="fast"))
    assert made.artifact is not None
    assert not relays(made.artifact.network)
    assert not any("/relay" in p.name for p in made.artifact.network.populations)
