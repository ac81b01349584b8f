"""Proofs of what a compile ends with: right read-outs on average, and an artifact that reads back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace

import numpy as np

from nmc.compiler.prove_executed import offset_problems
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Routed
from nmc.ir.network import Network, Projection
from nmc.ir.npy import npy_array, npy_bytes
from nmc.ir.reference import encode
from nmc.ir.serial import from_document, mapping_from_document, mapping_to_document, to_document
from nmc.runtime.artifact import GRID_KEYS, Artifact
from nmc.runtime.simulator import simulate

WORK = 1 << 25
"""Neuron updates that proving the read-outs may take: less than a tenth of a second."""

LARGE = 1 << 22
"""Weights of a projection that are read back at the most."""

LEAST = 4
"""Inputs that are run of the largest networks."""


def prove_read_outs(graph: LayerGraph, routed: Routed, inputs: Array) -> None:
    """The read-outs of a network whose passes promised right means (`matches_means`) are right on average.

    Args:
        graph: simplified.
        routed: the mapped program.
        inputs: all that it was calibrated on; as many are run as cost little.

    Raises:
        NmcError: they are not.
    """
    network = routed.network
    updates = sum(p.neurons for p in network.populations) * network.timesteps_total
    tried = inputs[: max(WORK // max(updates, 1), LEAST)]
    readouts = simulate(routed, encode(network, tried)).readouts
    sink = DiagnosticSink()
    for message, origin in offset_problems(graph, network, tried, readouts, whole=len(tried) == len(inputs)):
        sink.error("stage-differs", f"after calibration: {message}", origin=origin)
    sink.raise_errors(ExitCode.INTERNAL)


def prove_artifact(artifact: Artifact) -> None:
    """What will be written reads back as the network and mapping that were proved.

    Raises:
        NmcError: it does not.
    """
    network = _light(artifact.network)
    document, tensors = to_document(network)
    # As a file would give them: only what the bytes hold.
    stored = {name: npy_array(npy_bytes(array)) for name, array in tensors.items()}
    parts = [name for name, same in _stored_parts(artifact, network, from_document(document, stored)) if not same]
    if parts:
        raise NmcError.single(
            "artifact-differs",
            f"the artifact would hold other {' and '.join(parts)} than what was compiled",
            ExitCode.INTERNAL,
        )


def _light(network: Network) -> Network:
    """The network with the first weights alone of its largest projections: they are not held twice."""

    def light(projection: Projection) -> Projection:
        connectivity = projection.connectivity
        if connectivity.weight.size <= LARGE:
            return projection
        return replace(projection, connectivity=connectivity.with_weight(connectivity.weight.reshape(-1)[:LARGE]))

    return replace(network, projections=tuple(map(light, network.projections)))


def _stored_parts(artifact: Artifact, network: Network, back: LayerGraph | Network) -> Iterator[tuple[str, bool]]:
    """What the documents hold, and whether it is the same."""
    yield "network", equal_values(back, network)
    if artifact.grid is None:
        return
    routed = artifact.routed
    grid = {name: getattr(artifact.grid, name) for name in GRID_KEYS} | {"host_port": artifact.grid.host_port}
    mapping, _ = mapping_from_document(mapping_to_document(routed, grid), artifact.network)
    yield "clusters", mapping.clusters == routed.clusters
    yield "places", dict(mapping.places) == dict(routed.places)
    yield "routes", mapping.routes == routed.routes


def equal_values(one: object, other: object) -> bool:
    """Whether two values of the IR say the same: classes, fields and numbers, whatever the width of integers."""
    if isinstance(one, np.ndarray | np.generic) and isinstance(other, np.ndarray | np.generic):
        return one.shape == other.shape and bool(np.array_equal(one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal_values(one[key], other[key]) for key in one)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(equal_values, one, other))
    if is_dataclass(one) and type(one) is type(other):
        return all(equal_values(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.init)
    return one == other
