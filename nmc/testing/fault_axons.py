"""Faults of axons: messages that are lost, doubled, early or late, or reach other synapses."""

from __future__ import annotations

from dataclasses import replace

from nmc.ir.mapping import Routed, region_mask
from nmc.testing.fault_bench import Bench, shifted, with_one_more, without_first


def drop_axon_group(bench: Bench) -> Routed | None:
    """All axons of one projection into one slice are missing."""
    found = bench.axon()
    return None if found is None else bench.with_axon(*found)


def double_axon_group(bench: Bench) -> Routed | None:
    """An axon group stands twice: every message counts double."""
    found = bench.axon()
    if found is None:
        return None
    cluster, index = found
    return bench.with_axon(cluster, index, cluster.axons[index], cluster.axons[index])


def shrink_axon_region(bench: Bench) -> Routed | None:
    """One source neuron lost its axon."""
    found = bench.axon(lambda a: int(region_mask(a.region, bench.source_shape(a)).sum()) > 1)
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    return bench.with_axon(cluster, index, replace(axon, region=without_first(axon.region, bench.source_shape(axon))))


def drop_axon_box(bench: Bench) -> Routed | None:
    """The last box of a region of axons is missing."""
    found = bench.axon(lambda a: len(a.region) > 1)
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    return bench.with_axon(cluster, index, replace(axon, region=axon.region[:-1]))


def grow_axon_region(bench: Bench) -> Routed | None:
    """An axon without any synapse."""
    found = bench.axon(lambda a: with_one_more(a.region, bench.source_shape(a)) is not None)
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    region = with_one_more(axon.region, bench.source_shape(axon))
    return None if region is None else bench.with_axon(cluster, index, replace(axon, region=region))


def shift_axon_region(bench: Bench) -> Routed | None:
    """Axons moved by one neuron."""
    return _shift_axons(bench, 1)


def shift_axon_region_back(bench: Bench) -> Routed | None:
    """Axons moved by one neuron the other way."""
    return _shift_axons(bench, -1)


def _shift_axons(bench: Bench, by: int) -> Routed | None:
    found = bench.axon(lambda a: shifted(a.region, bench.source_shape(a), by) is not None)
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    region = shifted(axon.region, bench.source_shape(axon), by)
    return None if region is None else bench.with_axon(cluster, index, replace(axon, region=region))


def axon_region_outside(bench: Bench) -> Routed | None:
    """Axons of neurons that do not exist."""
    found = bench.axon()
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    (start, stop, step), *rest = axon.region[0]
    box = ((start, stop + bench.source_shape(axon)[0], step), *rest)
    return bench.with_axon(cluster, index, replace(axon, region=(box, *axon.region[1:])))


def late_axons(bench: Bench) -> Routed | None:
    """Messages act one step late."""
    return _delay(bench, 1)


def early_axons(bench: Bench) -> Routed | None:
    """Messages act one step early."""
    return _delay(bench, -1)


def _delay(bench: Bench, by: int) -> Routed | None:
    found = bench.axon()
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    return bench.with_axon(cluster, index, replace(axon, delay=axon.delay + by))


def wrong_projection(bench: Bench) -> Routed | None:
    """Axons carry the synapses of another projection."""
    found = bench.axon()
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    other = bench.pick([p.name for p in bench.routed.network.projections if p.name != axon.projection])
    return None if other is None else bench.with_axon(cluster, index, replace(axon, projection=other))


def unknown_projection(bench: Bench) -> Routed | None:
    """Axons of a projection that does not exist."""
    found = bench.axon()
    if found is None:
        return None
    cluster, index = found
    return bench.with_axon(cluster, index, replace(cluster.axons[index], projection="no such projection"))


def wrong_slice(bench: Bench) -> Routed | None:
    """Axons drive another slice of the core."""
    found = bench.pick([(c, i) for c in bench.cores for i, _ in enumerate(c.axons) if len(c.slices) > 1])
    if found is None:
        return None
    cluster, index = found
    axon = cluster.axons[index]
    return bench.with_axon(cluster, index, replace(axon, slice=(axon.slice + 1) % len(cluster.slices)))


def slice_out_of_range(bench: Bench) -> Routed | None:
    """Axons drive a slice that the core does not have."""
    found = bench.axon()
    if found is None:
        return None
    cluster, index = found
    return bench.with_axon(cluster, index, replace(cluster.axons[index], slice=len(cluster.slices)))
