"""What a run of a mapping returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nmc.ir.connectivity import Array, IndexArray

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done."""


@dataclass(frozen=True, eq=False)
class MappedRun:
    """Raw results of `execute_mapped`.

    Attributes:
        readouts: by population that is read, (N, T, its slots) int64: the read-out after each step of
            its window.
        messages, potentials: (N, T, slots) int64, or None where not kept.
        synops: (clusters,) synaptic operations at each.
        fired: (slots,) messages sent by each.
        changed: (slices,) neuron updates that changed something.
        overflows: sums of magnitude 2^31 and more.
    """

    readouts: Mapping[str, Array]
    messages: Array | None
    potentials: Array | None
    synops: IndexArray
    fired: IndexArray
    changed: IndexArray
    overflows: int
