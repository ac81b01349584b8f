"""Whether the axons of every core carry every synapse exactly once, and nothing else."""

from __future__ import annotations

from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Cluster, Region
from nmc.passes.check.reach import Recount
from nmc.passes.check.structure import Parts

Synapses = dict[str, int]
"""Synapses on one core, by projection."""


def check_synapses(parts: Parts, recount: Recount, cluster: Cluster, sink: DiagnosticSink) -> Synapses:
    """Every synapse hangs on exactly one axon entry, every axon has a synapse, delays are the network's.

    Returns:
        the synapses into the cluster.
    """
    entries: dict[tuple[int, str], list[Region]] = {}
    for axon in parts.axons[cluster.id]:
        projection = parts.projections[axon.projection]
        entries.setdefault((axon.slice, axon.projection), []).append(axon.region)
        if axon.delay != projection.delay:
            sink.error(
                "mapping-delay",
                f"core {cluster.id}: axons of '{axon.projection}' have delay {axon.delay}, the network's is "
                f"{projection.delay}",
                origin=projection.origin,
            )
    synapses: Synapses = {}
    for index, population, box in parts.slices(cluster):
        for projection in parts.network.incoming[population.name]:
            found = recount.reach(projection, box).against(entries.get((index, projection.name), []))
            synapses[projection.name] = synapses.get(projection.name, 0) + found.synapses
            if found.dropped or found.doubled or found.idle:
                sink.error(
                    "mapping-synapse",
                    f"core {cluster.id}, slice {index}: of the {found.synapses} synapses of '{projection.name}' "
                    f"{found.dropped} have no axon and {found.doubled} have several; {found.idle} axons have no "
                    "synapse",
                    origin=projection.origin,
                )
    return synapses
