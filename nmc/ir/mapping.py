"""The mapping: `Partitioned` -> `Placed` -> `Routed`.

Three types, so that nobody can place what was never partitioned. A region of a
population is a union of strided boxes in the population's shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nmc.ir.connectivity import IndexArray, Shape, size
from nmc.ir.network import Network
from nmc.ir.origin import Origin

Box = tuple[tuple[int, int, int], ...]
"""One (start, stop, step) per axis of a population's shape."""

Region = tuple[Box, ...]
"""A union of boxes."""

HOST = -1
"""The id of the host's cluster, if there is one."""


def box_size(box: Box) -> int:
    """Neurons in a box."""
    return size(tuple(len(range(*axis)) for axis in box))


def box_indices(box: Box, shape: Shape) -> IndexArray:
    """Flat C-order neurons of a box, in C order of the box."""
    axes = [np.arange(*axis, dtype=np.int64) for axis in box]
    return np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), shape).reshape(-1).astype(np.int64)


def region_mask(region: Region, shape: Shape) -> NDArray[np.bool_]:
    """Boolean array of the population's shape: neurons inside the region."""
    mask = np.zeros(shape, dtype=np.bool_)
    for box in region:
        mask[tuple(slice(*axis) for axis in box)] = True
    return mask


def whole(shape: Shape) -> Box:
    """The box of all neurons."""
    return tuple((0, n, 1) for n in shape)


@dataclass(frozen=True)
class Slice:
    """Neurons of one population that live on one core: one box, in its C order."""

    population: str
    box: Box

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return box_size(self.box)


@dataclass(frozen=True)
class AxonGroup:
    """Input axons of a core.

    A message of any neuron in ``region`` drives, through the synapses of ``projection``,
    the neurons of slice number ``slice``, ``delay`` steps after it was sent. Groups of one
    core that name the same source neuron share one physical axon.
    """

    projection: str
    slice: int
    region: Region
    delay: int


@dataclass(frozen=True)
class Cluster:
    """What one core holds. Id `HOST` is the host: sources and layers computed there.

    Attributes:
        origins: the ONNX nodes behind its slices, in slice order.
    """

    id: int
    slices: tuple[Slice, ...]
    axons: tuple[AxonGroup, ...]
    origins: tuple[Origin, ...]

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return sum(s.neurons for s in self.slices)


@dataclass(frozen=True)
class Place:
    """Where a cluster sits: chip, tile coordinates on the whole mesh, core within the tile."""

    chip: int
    x: int
    y: int
    core: int = 0


@dataclass(frozen=True)
class Route:
    """Messages of the neurons of ``region`` in a source slice go to one destination core.

    Attributes:
        source: id of the source cluster.
        slice: index of the slice in the source cluster.
        region: neurons (in the population's shape) that send there; a union.
        destination: id of the destination cluster.
        links: tiles passed, (x, y), from the source's tile to the destination's, both included.
    """

    source: int
    slice: int
    region: Region
    destination: int
    links: tuple[tuple[int, int], ...] = ()

    @property
    def hops(self) -> int:
        """Mesh links crossed."""
        return max(len(self.links) - 1, 0)


@dataclass(frozen=True, eq=False)
class Partitioned:
    """The network cut into clusters, each fitting a core."""

    network: Network
    clusters: tuple[Cluster, ...]
    rates: Mapping[str, float] = field(default_factory=dict)
    """Messages per neuron and step of the window, measured in calibration, by population."""

    @cached_property
    def by_id(self) -> Mapping[int, Cluster]:
        """Clusters by id."""
        return {c.id: c for c in self.clusters}

    @property
    def cores_used(self) -> int:
        """Cores, the host not counted."""
        return sum(c.id != HOST for c in self.clusters)


@dataclass(frozen=True, eq=False)
class Placed(Partitioned):
    """Clusters with places; ``places`` by cluster id."""

    places: Mapping[int, Place] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Routed(Placed):
    """Clusters, places and routes: all that a device needs."""

    routes: tuple[Route, ...] = ()
