"""Macro-nodes of a population: chunks of channels at single places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.ir.connectivity import IndexArray, size
from nmc.ir.mapping import Box
from nmc.ir.network import Population

RESOURCES = ("neurons", "in_axons", "synapse_bits", "threshold_profiles", "synaptic_operations")
"""What a core of a macro-graph is judged by; output axons depend on all other cores."""

NEURONS, IN_AXONS, SYNAPSE_BITS, PROFILES, OPERATIONS = range(5)


@dataclass(frozen=True, eq=False)
class Unit:
    """The nodes of one population: chunks x places, numbered in that order from ``first``.

    Attributes:
        first: number of its first node.
        chunk: channels of a node (the last chunk may have fewer).
        grid: (chunks, places): places are height x width, 1 for a vector.
    """

    population: Population
    first: int
    chunk: int
    grid: tuple[int, int]

    @classmethod
    def of(cls, population: Population, first: int, chunk: int) -> Unit:
        """The nodes of a population with at most ``chunk`` channels each."""
        channels, *rest = population.shape
        step = min(chunk, channels)
        return cls(population, first, step, (-(-channels // step), size(tuple(rest))))

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return self.grid[0] * self.grid[1]

    def channels(self) -> IndexArray:
        """(chunks,) channels of each chunk."""
        channels: IndexArray = np.minimum(self.chunk, self.population.shape[0] - np.arange(self.grid[0]) * self.chunk)
        return channels

    def slab(self, chunk: int) -> Box:
        """All neurons of a chunk of channels."""
        count, *rest = self.population.shape
        return (
            (chunk * self.chunk, min((chunk + 1) * self.chunk, count), 1),
            *((0, n, 1) for n in rest),
        )

    def box(self, node: int) -> Box:
        """The neurons of a node."""
        chunk, place = divmod(node - self.first, self.grid[1])
        box = [self.slab(chunk)[0]]
        for axis, n in enumerate(self.population.shape[1:], 1):
            at = place // size(self.population.shape[axis + 1 :]) % n
            box.append((at, at + 1, 1))
        return tuple(box)
