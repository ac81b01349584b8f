"""What to say when there are more clusters than cores: who takes them, and what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nmc.hardware.target import Target
from nmc.ir.diagnostic import Diagnostic, DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import HOST, Cluster, Partitioned
from nmc.passes.partition.count import count_all
from nmc.passes.partition.limits import LIMITS, binding_limit

NAMED = 3
"""Layers that are named at most."""


@dataclass(frozen=True)
class LayerNeed:
    """A layer and the cores that hold a part of it.

    Attributes:
        name: of the population.
        cores: that hold a part of it.
        limit: name of the limit that most of them are nearest to.
        used: how much of it the fullest of those cores uses, as a fraction.
    """

    name: str
    cores: int
    limit: str
    used: float


def layer_needs(partitioned: Partitioned, target: Target) -> list[LayerNeed]:
    """The layers on the chip, those on most cores first."""
    binding = {number: binding_limit(use, target.core) for number, use in count_all(partitioned, target).items()}
    holders: dict[str, list[int]] = {}
    for cluster in _on_chip(partitioned):
        for name in dict.fromkeys(piece.population for piece in cluster.slices):
            holders.setdefault(name, []).append(cluster.id)
    needs = []
    for name, numbers in holders.items():
        limit = Counter(binding[number][0] for number in numbers).most_common(1)[0][0]
        used = max(binding[number][1] for number in numbers if binding[number][0] == limit)
        needs.append(LayerNeed(name, len(numbers), limit, used))
    return sorted(needs, key=lambda need: -need.cores)


def too_many_cores(partitioned: Partitioned, target: Target, chips: int) -> NmcError:
    """The error: how many cores too many, by which layers, what was placed, one to three changes."""
    grid = target.grid
    needed, available = partitioned.cores_used, chips * grid.cores_per_chip
    needs = layer_needs(partitioned, target)
    largest = needs[0]
    origin = partitioned.network.by_name[largest.name].origin
    message = (
        f"the network needs {needed} cores, {needed - available} more than the {available} of {chips} "
        f"chip{'s' if chips > 1 else ''} of target '{target.name}'; layer '{largest.name}' takes most, "
        f"{largest.cores}, which are nearest to {largest.limit} ({100 * largest.used:.0f} % of "
        f"{getattr(target.core, largest.limit)})"
    )
    changes = "; ".join(f"({n}) {text}" for n, text in enumerate(_changes(needed, largest, target), 1))
    error = Diagnostic("too-many-cores", message, "error", origin, f"any of these may help: {changes}")
    sink = DiagnosticSink()
    sink.note("layers-placed", _placed(partitioned, needs, available))
    return NmcError([error, *sink.items], ExitCode.DOES_NOT_FIT)


def _changes(needed: int, largest: LayerNeed, target: Target) -> list[str]:
    grid = target.grid
    would_do = -(-needed // grid.cores_per_chip)
    chips = (
        f"--chips {would_do}"
        if would_do <= grid.chips_max
        else f"fewer cores: at most {grid.chips_max} chips can be joined, {would_do} would be needed"
    )
    return [chips, f"in '{largest.name}': {advice(largest)}", "another --partitioner, or a target with larger cores"]


def advice(need: LayerNeed) -> str:
    """What lets a layer take fewer cores."""
    if need.limit == "neurons":
        return "fewer channels or a larger stride"
    return next(limit for limit in LIMITS if limit.name == need.limit).help


def _placed(partitioned: Partitioned, needs: Sequence[LayerNeed], available: int) -> str:
    """Which layers the available cores take in the order of the network, and which are left out."""
    clusters = _on_chip(partitioned)
    total: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for number, cluster in enumerate(clusters):
        for piece in cluster.slices:
            total[piece.population] += piece.neurons
            inside[piece.population] += piece.neurons if number < available else 0
    order = [p.name for p in partitioned.network.populations if p.name in total]
    whole = [name for name in order if inside[name] == total[name]]
    cut = [name for name in order if inside[name] < total[name]]
    left = ", ".join(f"'{name}' ({total[name] - inside[name]:,} of {total[name]:,} neurons)" for name in cut[:NAMED])
    more = f" and {len(cut) - NAMED} more" if len(cut) > NAMED else ""
    most = ", ".join(f"'{need.name}' {need.cores}" for need in needs[:NAMED])
    return (
        f"in the order of the network {len(whole)} of {len(order)} layers are placed on {available} cores, 0 cores "
        f"are left; without room: {left}{more}; cores by layer: {most}"
    )


def _on_chip(partitioned: Partitioned) -> list[Cluster]:
    return [cluster for cluster in partitioned.clusters if cluster.id != HOST]
