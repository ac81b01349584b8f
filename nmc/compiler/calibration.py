"""What the passes know of real data: calibration inputs and the float activations on them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmc.compiler.frontends.onnx import SourceModel
from nmc.compiler.frontends.onnx.budget import multiplications
from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.samples import joined
from nmc.kernels.graph import execute_graph
from nmc.runtime.data import Data, Preprocessing, from_arrays, load_data

if TYPE_CHECKING:
    from nmc.compiler.driver import CompileRequest

ASSUMED_SAMPLES = 64
"""Seeded inputs used where the user gives none, at the most."""

ASSUMED_WORK = 1 << 34
"""Multiplications that all of them together may take: a VGG-19 takes as many for one."""

ASSUMED_VALUES = 1 << 26
"""Numbers in the layers of all of them together: half a gigabyte of float64."""

LARGEST = float(np.finfo(np.float32).max)
"""Activations are kept in float32."""

SAMPLES_MAX = 1024
"""Of the user's samples that are used; more only take longer."""

ACTIVATION_SAMPLES = 256
"""Samples whose activations are kept: ranges and means settle well before."""

ACTIVATION_BYTES = 1 << 30
"""Budget for the activations kept; those of fewer samples are where they would not fit."""


class CalibrationOracle:
    """Calibration inputs and activations of the analog network, computed once.

    Args:
        graph: as read; `follow` exchanges it for what the passes make of it.
        inputs: (N, ...) float32 in the ONNX file's layout.
        from_data: the inputs are the user's.
    """

    def __init__(self, graph: LayerGraph, inputs: Array, *, from_data: bool) -> None:
        values = sum(size(layer.shape) for layer in graph.layers)
        fits = max(ACTIVATION_BYTES // (4 * max(values, 1)), 8)
        self._graph = graph
        self._kept = min(ACTIVATION_SAMPLES, fits)
        self._inputs = np.ascontiguousarray(inputs[:SAMPLES_MAX], dtype=np.float32)
        self._from_data = from_data
        self._known: dict[str, Array] = {}

    @property
    def inputs(self) -> Array:
        """(N, ...) float32."""
        return self._inputs

    @property
    def from_data(self) -> bool:
        """Whether the inputs are the user's."""
        return self._from_data

    def follow(self, graph: LayerGraph) -> None:
        """The simplified network from now on.

        Its outputs are the same; its layers are what later stages ask for: some are new (the
        differences that a maximum is made of), some have their values in another order.
        """
        if graph is not self._graph:
            self._graph, self._known = graph, {}

    def activations(self, names: Iterable[str]) -> dict[str, Array]:
        """(M, *shape) float32 values of the named layers on the first M <= N inputs."""
        names = tuple(names)
        new = [name for name in names if name not in self._known]
        if new:
            batch = 16
            parts: dict[str, list[Array]] = {name: [] for name in new}
            inputs = self._inputs[: self._kept]
            for first in range(0, len(inputs), batch):
                values = execute_graph(self._graph, inputs[first : first + batch], new)
                for name in new:
                    # What float32 cannot hold counts as the largest that it can.
                    parts[name].append(np.clip(values[name], -LARGEST, LARGEST).astype(np.float32))
            self._known |= {name: np.concatenate(chunks) for name, chunks in parts.items()}
        return {name: self._known[name] for name in names}


def assumed_samples(graph: LayerGraph) -> int:
    """How many seeded inputs stand in for data: fewer for networks that take long, or much memory, for each."""
    work = sum(multiplications(layer) for layer in graph.layers)
    values = sum(size(layer.shape) for layer in graph.layers)
    return int(np.clip(min(ASSUMED_WORK // max(work, 1), ASSUMED_VALUES // values), 1, ASSUMED_SAMPLES))


def calibration_inputs(model: SourceModel, request: CompileRequest, sink: DiagnosticSink) -> tuple[Data | None, Array]:
    """The user's calibration data, and the inputs to calibrate on: seeded ones where there are none.

    Raises:
        NmcError: (exit 2) the data cannot be used, or there is none and it was required.
    """
    shapes = model.graph.input_shapes
    if request.calib is not None:
        preprocessing = Preprocessing.parse(request.preprocess or "")
        if isinstance(request.calib, str | Path):
            data = load_data(str(request.calib), shapes, preprocessing, seed=request.seed)
        else:
            data = from_arrays(request.calib, None, shapes, preprocessing)
        sink.items.extend(data.warnings)
        return data, data.x
    if request.require_calib:
        raise NmcError.single(
            "calibration-required",
            "--require-calib was given, but no calibration data",
            ExitCode.USAGE,
            help="give samples of the training data: --calib calib.npz",
        )
    count = assumed_samples(model.graph)
    ranges = dict.fromkeys("[0, 1)" if ends is None else f"[{ends[0]}, {ends[1]}]" for ends in model.integers)
    sink.warning(
        "calibration-missing",
        f"no calibration data: ranges come from {count} seeded input{'s' if count > 1 else ''} in "
        f"{' and '.join(ranges)}; accuracy is not assured",
        help=f"nmc compile {model.name}.onnx --target {request.target} --calib calib.npz",
    )
    generator = np.random.default_rng([request.seed, *b"assumed-inputs"])
    parts = []
    for shape, ends in zip(shapes.values(), model.integers, strict=True):
        if ends is None:
            parts.append(generator.random((count, *shape), dtype=np.float32))
        else:
            drawn = generator.integers(ends[0], ends[1] + 1, (count, *shape))
            parts.append(drawn.astype(np.float32))
    return None, joined(parts)
