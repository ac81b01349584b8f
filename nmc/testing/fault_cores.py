"""Faults of cores: neurons that are missing, doubled or somewhere else than the routes say."""

from __future__ import annotations

from dataclasses import replace

from nmc.ir.mapping import HOST, Cluster, Routed
from nmc.testing.fault_bench import Bench, shifted


def _sending_pairs(bench: Bench) -> list[tuple[Cluster, Cluster]]:
    """Pairs of cores of which one sends: two that only listen may be twins, whose exchange is no fault."""
    senders = {route.source for route in bench.routed.routes}
    return [(a, b) for a in bench.cores for b in bench.cores if a.id < b.id and {a.id, b.id} & senders]


def swap_core_contents(bench: Bench) -> Routed | None:
    """Two cores hold each other's slices and axons; routes lead where they led before."""
    found = bench.pick(_sending_pairs(bench))
    if found is None:
        return None
    one, other = found
    changed = {one.id: replace(other, id=one.id), other.id: replace(one, id=other.id)}
    return replace(bench.routed, clusters=tuple(changed.get(c.id, c) for c in bench.routed.clusters))


def swap_slices(bench: Bench) -> Routed | None:
    """Two cores hold each other's slices, axons stay."""
    found = bench.pick(_sending_pairs(bench))
    if found is None:
        return None
    one, other = found
    changed = {
        one.id: replace(one, slices=other.slices, origins=other.origins),
        other.id: replace(other, slices=one.slices, origins=one.origins),
    }
    return replace(bench.routed, clusters=tuple(changed.get(c.id, c) for c in bench.routed.clusters))


def missing_core(bench: Bench) -> Routed | None:
    """A core is missing with everything on it, its place and its routes."""
    cluster = bench.pick(bench.cores)
    if cluster is None:
        return None
    routed = bench.routed
    return replace(
        routed,
        clusters=tuple(c for c in routed.clusters if c.id != cluster.id),
        places={number: place for number, place in routed.places.items() if number != cluster.id},
        routes=tuple(r for r in routed.routes if cluster.id not in (r.source, r.destination)),
    )


def missing_slice(bench: Bench) -> Routed | None:
    """A core forgot the neurons of its last slice."""
    cluster = bench.pick([c for c in bench.cores if len(c.slices) > 1])
    if cluster is None:
        return None
    last = len(cluster.slices) - 1
    axons = tuple(a for a in cluster.axons if a.slice != last)
    return bench.with_cluster(replace(cluster, slices=cluster.slices[:-1], axons=axons, origins=cluster.origins[:-1]))


def doubled_core(bench: Bench) -> Routed | None:
    """The same cluster stands twice in the list."""
    cluster = bench.pick(bench.cores)
    return None if cluster is None else replace(bench.routed, clusters=(*bench.routed.clusters, cluster))


def duplicated_slice(bench: Bench) -> Routed | None:
    """A core holds neurons of another core as well."""
    found = bench.pick([(c, d) for c in bench.cores for d in bench.cores if c.id != d.id])
    if found is None:
        return None
    cluster, other = found
    return bench.with_cluster(
        replace(cluster, slices=(*cluster.slices, other.slices[0]), origins=(*cluster.origins, other.origins[0]))
    )


def shrunk_slice(bench: Bench) -> Routed | None:
    """A slice lost its last row."""
    found = bench.pick([(c, i) for c in bench.cores for i, s in enumerate(c.slices) if s.neurons > 1])
    if found is None:
        return None
    cluster, index = found
    piece = cluster.slices[index]
    axis = max(range(len(piece.box)), key=lambda a: len(range(*piece.box[a])))
    start, stop, step = piece.box[axis]
    box = (*piece.box[:axis], (start, stop - step, step), *piece.box[axis + 1 :])
    return bench.with_slice(cluster, index, replace(piece, box=box))


def shifted_slice(bench: Bench) -> Routed | None:
    """A slice moved by one neuron within its population."""
    network = bench.routed.network
    options = [
        (c, i, moved[0])
        for c in bench.cores
        for i, s in enumerate(c.slices)
        for by in (1, -1)
        if (moved := shifted((s.box,), network.by_name[s.population].shape, by)) is not None
    ]
    found = bench.pick(options)
    if found is None:
        return None
    cluster, index, box = found
    return bench.with_slice(cluster, index, replace(cluster.slices[index], box=box))


def slice_of_another_population(bench: Bench) -> Routed | None:
    """A slice claims to be of another population."""
    names = [p.name for p in bench.routed.network.populations]
    found = bench.pick([(c, i) for c in bench.cores for i, _ in enumerate(c.slices)])
    if found is None or len(names) < 2:
        return None
    cluster, index = found
    piece = cluster.slices[index]
    other = bench.pick([name for name in names if name != piece.population])
    return None if other is None else bench.with_slice(cluster, index, replace(piece, population=other))


def host_content_on_core(bench: Bench) -> Routed | None:
    """The host's cluster is numbered as a core."""
    host = bench.routed.by_id.get(HOST)
    if host is None:
        return None
    number = max(c.id for c in bench.routed.clusters) + 1
    clusters = tuple(replace(c, id=number) if c.id == HOST else c for c in bench.routed.clusters)
    return replace(bench.routed, clusters=clusters)
