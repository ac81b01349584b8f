"""What the comparisons with other tools share: images, ONNX Runtime's answers, and our passes one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from cifar import NORMALISED, images_of
from simulation_networks import one_core_each

from nmc.backends.api import Options
from nmc.compiler.calibration import CalibrationOracle
from nmc.compiler.frontends.isolation import read_isolated
from nmc.compiler.plugins import find_target, load_backend, pipeline_of
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.layers import LayerGraph
from nmc.ir.network import Network
from nmc.ir.reference import decode, encode
from nmc.passes.base import Context
from nmc.passes.quantize.calibrate_layers import CalibrateLayers
from nmc.runtime.data import Preprocessing, load_data
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.simulator import simulate

BATCH = 200


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and its data, as the network takes them.

    Attributes:
        calib: unlabelled training images.
        x, y: test images and their classes.
        wanted: (N, classes) of ONNX Runtime.
    """

    name: str
    model: Path
    calib: np.ndarray
    x: np.ndarray
    y: np.ndarray
    wanted: np.ndarray

    @cached_property
    def right(self) -> np.ndarray:
        """(N,) whether ONNX Runtime's answer is right."""
        return np.asarray(self.wanted.argmax(1) == self.y)

    def lost(self, answers: np.ndarray) -> tuple[float, float]:
        """Points lost against ONNX Runtime on the same images, and 1.96 standard errors of the paired difference."""
        lost = self.right.astype(float) - (answers == self.y)
        return 100 * float(lost.mean()), 196 * float(lost.std()) / float(np.sqrt(len(lost)))


def subject(name: str, data: Path, samples: int, calib: int) -> Subject | None:
    """A network with its data, or None where files are missing."""
    model = data / f"models/{name}.onnx"
    if name == "mnist_cnn":
        train, test, preprocess = data / "mnist/train.npz", data / "mnist/test.npz", ""
    else:
        train, test = (data / f"cifar10_jpeg/{part}.tar.xz" for part in ("train", "test"))
        preprocess = NORMALISED
    if not (model.exists() and train.exists() and test.exists()):
        return None
    if name == "mnist_cnn":
        raw, scored = np.load(train)["x"][:calib], np.load(test)
        x, y = scored["x"][:samples], scored["y"][:samples]
    else:
        raw, (x, y) = images_of(train, calib)[0], images_of(test, samples)
    prepared = [_prepared(part, preprocess) for part in (raw, x)]
    oracle = OnnxOracle(model.read_bytes())
    wanted = np.concatenate([np.asarray(oracle.run(prepared[1][i : i + BATCH])) for i in range(0, len(x), BATCH)])
    return Subject(name, model, *prepared, y, wanted.reshape(len(x), -1))


def _prepared(x: np.ndarray, preprocess: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/x.npz", x=x)
        return load_data(f"{folder}/x.npz", x.shape[1:], Preprocessing.parse(preprocess)).x


@dataclass(frozen=True, eq=False)
class Passes:
    """Our passes between an ONNX file and integers, without a mapping: what settings change.

    Attributes:
        graph: simplified.
        context: with the calibration images.
    """

    graph: LayerGraph
    context: Context

    @classmethod
    def of(cls, given: Subject, target: str = "loihi2") -> Passes:
        """Read and simplify a network."""
        graph = read_isolated(given.model).graph
        backend, chip = find_target(target)
        oracle = CalibrationOracle(graph, given.calib, from_data=True)
        context = Context(chip, DiagnosticSink(), oracle)
        for step in pipeline_of(backend, chip, Options()).steps:
            if step.stage == "simplify":
                graph = step.run(graph, context)  # type: ignore[assignment]
        oracle.follow(graph)
        return cls(graph, context)

    def network(self, options: Options, *, calibrated: bool = True) -> Network:
        """The integer network.

        Args:
            options: of a compile.
            calibrated: else calibrate-layers is left out: not even biases are corrected.
        """
        target = self.context.target
        program: object = self.graph
        for step in pipeline_of(load_backend(target.family), target, options).steps:
            if step.stage in ("convert", "align", "quantize") and (calibrated or not isinstance(step, CalibrateLayers)):
                program = step.run(program, replace(self.context, diagnostics=DiagnosticSink()))
        if not isinstance(program, Network):
            raise TypeError("the passes end before a network")
        return program


def outputs(network: Network, x: np.ndarray) -> np.ndarray:
    """(N, outputs) of an integer network in the simulator, a core for each population."""
    return np.concatenate(list(_outputs(network, x)))


def _outputs(network: Network, x: np.ndarray) -> Iterator[np.ndarray]:
    routed = one_core_each(network)
    for first in range(0, len(x), BATCH):
        inputs = encode(network, x[first : first + BATCH])
        yield decode(network, simulate(routed, inputs).readout).reshape(len(inputs), -1)
