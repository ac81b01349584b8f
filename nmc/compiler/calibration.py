"""What the passes know of real data: calibration inputs and the float activations on them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nmc.ir.connectivity import Array, size
from nmc.ir.layers import LayerGraph
from nmc.kernels.graph import execute_graph

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
                    parts[name].append(values[name].astype(np.float32))
            self._known |= {name: np.concatenate(chunks) for name, chunks in parts.items()}
        return {name: self._known[name] for name in names}
