"""Clusters that can keep the pins: cut where a core would hold layers that belong apart, joined where they crowd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from nmc.hardware.target import Target
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import HOST, Cluster, Partitioned, Place
from nmc.passes.partition.count import count_all, count_limits
from nmc.passes.partition.geometry import geometries
from nmc.passes.pins import Pins
from nmc.passes.place.matching import Crowd, matched
from nmc.passes.place.regions import Sites, pinned_sites
from nmc.passes.place.shortage import advice, layer_needs, too_many_cores
from nmc.passes.place.sites import on_chip

OPEN = 16
"""Joined clusters that another may join: the last so many that were opened."""


@dataclass(frozen=True, eq=False)
class Start:
    """A first placement that keeps the pins.

    Attributes:
        partitioned: the clusters, cut and joined where the pins ask for it.
        regions: by cluster in order, the host left out: the sites that it may lie on; None: any.
        site_of: by cluster in order: its site.
    """

    partitioned: Partitioned
    regions: tuple[Sites | None, ...]
    site_of: tuple[int, ...]


def keep_pins(partitioned: Partitioned, target: Target, chips: int, free: Sequence[Place], pins: Pins) -> Start:
    """Clusters and sites that keep the pins, the least changed that do.

    As they come; else layers with different regions on cores of their own; else the clusters
    that this leaves joined again where the limits hold.

    Args:
        partitioned: not placed yet.
        target: the chip.
        chips: that are used.
        free: cores that may be used.
        pins: of the user.

    Raises:
        NmcError: pins that name nothing (exit 2), a region too small for what is pinned to it
            or a core over its limits (exit 4).
    """
    layers = pinned_sites(pins, partitioned, target, chips, free)
    candidate, crowds = partitioned, tuple[Crowd, ...]()
    for candidate in _candidates(partitioned, layers, target):
        regions = [_region(cluster, layers) for cluster in on_chip(candidate)]
        crowds, sites = matched(regions)
        if crowds or len(regions) > len(free):
            continue
        if candidate is partitioned or not _overfull(candidate, target):
            return Start(candidate, tuple(regions), sites)
    if crowds:
        left = f"without the pins the network takes {partitioned.cores_used} of {len(free)} cores"
        errors = [_crowded(candidate, crowd, pins, target) for crowd in crowds]
        note = Diagnostic("layers-placed", f"{left}; {len(free) - partitioned.cores_used} cores are left", "note")
        raise NmcError([*errors, note], ExitCode.DOES_NOT_FIT)
    if candidate.cores_used > len(free):
        raise too_many_cores(candidate, target, chips)
    raise NmcError(_overfull(candidate, target), ExitCode.DOES_NOT_FIT)


def _candidates(partitioned: Partitioned, layers: Mapping[str, Sites], target: Target) -> Iterator[Partitioned]:
    yield partitioned
    apart = _cut(partitioned, layers)
    yield apart
    yield _joined(apart, layers, target)


def _region(cluster: Cluster, layers: Mapping[str, Sites]) -> Sites | None:
    """The sites that all pinned layers of a cluster may lie on; None: it holds no pinned layer."""
    held = [layers[piece.population] for piece in cluster.slices if piece.population in layers]
    return frozenset.intersection(*held) if held else None


def _cut(partitioned: Partitioned, layers: Mapping[str, Sites]) -> Partitioned:
    """Layers with different regions, or with and without one, on cores of their own."""
    clusters: list[Cluster] = []
    for cluster in partitioned.clusters:
        groups: dict[Sites | None, list[int]] = {}
        for index, piece in enumerate(cluster.slices):
            groups.setdefault(layers.get(piece.population), []).append(index)
        whole = cluster.id == HOST or len(groups) == 1
        clusters += [cluster] if whole else [_part(cluster, indices) for indices in groups.values()]
    return _numbered(partitioned, clusters)


def _part(cluster: Cluster, indices: Sequence[int]) -> Cluster:
    """Some slices of a cluster with their axons."""
    number = {index: position for position, index in enumerate(indices)}
    axons = tuple(replace(axon, slice=number[axon.slice]) for axon in cluster.axons if axon.slice in number)
    slices, origins = tuple(cluster.slices[i] for i in indices), tuple(cluster.origins[i] for i in indices)
    return Cluster(cluster.id, slices, axons, origins)


def _numbered(partitioned: Partitioned, clusters: Iterable[Cluster]) -> Partitioned:
    """Clusters in the order of the network, numbered from 0; the host's last, if there is one."""
    order = {p.name: index for index, p in enumerate(partitioned.network.populations)}
    cores = [cluster for cluster in clusters if cluster.id != HOST]
    cores.sort(key=lambda cluster: [(order[s.population], s.box) for s in cluster.slices])
    numbered = [replace(cluster, id=number) for number, cluster in enumerate(cores)]
    host = [cluster for cluster in partitioned.clusters if cluster.id == HOST]
    return Partitioned(partitioned.network, (*numbered, *host), partitioned.rates)


def _joined(partitioned: Partitioned, layers: Mapping[str, Sites], target: Target) -> Partitioned:
    """Clusters with one and the same region, or none, joined, the largest first, as long as the limits hold."""
    network, shapes = partitioned.network, geometries(partitioned.network)
    use = count_all(partitioned, target)
    out_axons = {number: counts.out_axons for number, counts in use.items()}
    bins: dict[Sites | None, list[Cluster]] = {}
    for cluster in sorted(on_chip(partitioned), key=lambda cluster: -cluster.neurons):
        opened = bins.setdefault(_region(cluster, layers), [])
        for number, other in list(enumerate(opened))[-OPEN:]:
            if other.neurons + cluster.neurons > target.core.neurons:
                continue
            both = _together(other, cluster)
            # Joining can only lower the destinations of a neuron: the sum is a bound.
            sent = out_axons[other.id] + out_axons[cluster.id]
            if not count_limits(both, network, target, out_axons=sent, shapes=shapes).exceeded(target.core):
                opened[number] = both
                out_axons[both.id] = sent
                break
        else:
            opened.append(cluster)
    return _numbered(partitioned, [cluster for opened in bins.values() for cluster in opened])


def _together(one: Cluster, other: Cluster) -> Cluster:
    """The slices and axons of both, with the id of the first."""
    moved = tuple(replace(axon, slice=axon.slice + len(one.slices)) for axon in other.axons)
    return Cluster(one.id, one.slices + other.slices, one.axons + moved, one.origins + other.origins)


def _overfull(partitioned: Partitioned, target: Target) -> list[Diagnostic]:
    """An error for each limit of a core that does not hold once pinned layers are apart from others."""
    sink = DiagnosticSink()
    for number, use in count_all(partitioned, target).items():
        cluster = partitioned.by_id[number]
        for limit in use.exceeded(target.core):
            allowed = limit.of(target.core) or 0
            held = ", ".join(f"'{name}'" for name in dict.fromkeys(piece.population for piece in cluster.slices))
            sink.error(
                limit.slug,
                f"with the pinned layers on cores of their own, a core of {held} has {limit.name} = "
                f"{use.count(limit.name)}, {use.count(limit.name) - allowed} over the limit of {allowed}",
                origin=cluster.origins[0],
                help=f"{limit.sentence} Pin the layers to one place, or leave out a pin",
            )
    return sink.items


def _crowded(partitioned: Partitioned, crowd: Crowd, pins: Pins, target: Target) -> Diagnostic:
    """The error of a region that is too small for what is pinned to it."""
    clusters = on_chip(partitioned)
    held = {piece.population for number in crowd.clusters for piece in clusters[number].slices}
    written = [(pin.layer, f"'{pin}'") for pin in pins.entries if pin.layer in held]
    largest = next(need for need in layer_needs(partitioned, target) if need.name in dict(written))
    cores, needed = len(crowd.sites), len(crowd.clusters)
    several = len(written) > 1
    changes = [
        f"pin {'them' if several else 'it'} to a place with {needed} cores" + (", or apart" if several else ""),
        f"in '{largest.name}': {advice(largest)}",
        "take a target with larger cores",
    ]
    message = (
        f"{'pins' if several else 'pin'} {', '.join(text for _, text in written)}: {cores} "
        f"core{'s' if cores > 1 else ''} may be used, {needed} are needed{' together' if several else ''}, "
        f"{needed - cores} more; '{largest.name}' takes {largest.cores}, nearest to {largest.limit} "
        f"({100 * largest.used:.0f} % of {getattr(target.core, largest.limit)})"
    )
    return Diagnostic(
        "pins-collide" if several else "pin-too-small",
        message,
        "error",
        partitioned.network.by_name[largest.name].origin,
        "any of these may help: " + "; ".join(f"({n}) {text}" for n, text in enumerate(changes, 1)),
    )
