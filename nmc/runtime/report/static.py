"""The static part of the report: ``report.json`` of an artifact, and what ``compile --json`` says.

Keys of the tree that `static_report` makes:

* ``target``: ``name``, ``family``, ``description``, ``hash``, ``grid``, ``core`` (limits),
  ``energy_sources`` by profile, ``assumptions``.
* ``layers``: ``name``, ``op``, ``node``, ``neurons``, ``synapses``, ``cores``, ``limit`` (the
  resource that its fullest core has least of), ``used`` (its share, 0 to 1), ``rate``, ``note``.
* ``cores``: ``id``, ``chip``, ``x``, ``y``, ``core``, ``neurons``, ``layers`` (name to neurons),
  ``use`` (resource to [used, limit]), ``spikes``, ``synops``, ``packets``, ``packets_received``.
* ``cores_used``, ``neurons``, ``synapses``.
* ``events``: per inference: ``spikes``, ``synops``, ``neuron_updates``, ``packets``, ``hops``, ``host_ops``.
* ``traffic``: ``packets_per_inference``, ``hops_mean``.
* ``energy_nj_per_inference``: by profile ``total``, ``static``, ``synapse``, ``neuron``, ``noc``,
  ``host``; ``low`` and ``high`` over the profiles' totals.
* ``latency``: ``input_steps``, ``pipeline_steps``, ``timesteps_total``, ``us`` (the longest
  estimate), ``us_by_profile``.
* ``ann_baseline``: ``macs``.
* ``diagnostics``: of the compile, in the form of ``--json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nmc.hardware.energy import estimate_all
from nmc.hardware.events import EventCounts
from nmc.hardware.neuron_models import needs_microcode
from nmc.hardware.target import EnergyProfile, Target
from nmc.hardware.timing import estimate_latency
from nmc.ir.connectivity import Array, Connectivity, Conv2d, Pool, Skip, size
from nmc.ir.diagnostic import Diagnostic
from nmc.ir.mapping import HOST, Routed
from nmc.ir.network import InputSpec, Network, Population
from nmc.ir.neurons import Source

Use = Mapping[int, Mapping[str, tuple[int, int | None]]]
"""For each core's cluster id: by resource, (used, limit); a limit of None is not limited or not published."""


def static_report(
    routed: Routed,
    target: Target,
    events: EventCounts,
    *,
    use: Use,
    macs: int,
    diagnostics: Iterable[Diagnostic] = (),
) -> dict[str, Any]:
    """Everything about a compiled network that does not depend on the samples of an evaluation.

    Args:
        routed: the mapping.
        target: the chip.
        events: per inference, measured on calibration samples.
        use: resources of each core, as the partition stage counts them.
        macs: multiply-adds of one inference of the analog network.
        diagnostics: what the compile had to say.

    Returns:
        a tree of JSON types, the same for the same arguments.
    """
    on_chip = [cluster for cluster in routed.clusters if cluster.id != HOST]
    layers = [_layer(routed, population, use, target) for population in routed.network.populations]
    hops = events.hops_ew + events.hops_ns
    return {
        "target": _target(target),
        "layers": layers,
        "cores": _cores(routed, events, use),
        "cores_used": routed.cores_used,
        "neurons": sum(cluster.neurons for cluster in on_chip),
        "synapses": sum(int(layer["synapses"]) for layer in layers),
        "events": {
            "spikes": float(events.spikes),
            "synops": float(events.synops),
            "neuron_updates": int(events.neuron_updates),
            "packets": float(events.packets),
            "hops": float(hops),
            "host_ops": float(events.host_ops),
        },
        "traffic": {
            "packets_per_inference": float(events.packets),
            "hops_mean": float(hops / events.packets) if events.packets else 0.0,
        },
        "energy_nj_per_inference": estimate_all(target, events).to_dict(),
        "latency": _latency(routed, target, events),
        "ann_baseline": {"macs": int(macs)},
        "diagnostics": [diagnostic.to_dict() for diagnostic in diagnostics],
    }


def _target(target: Target) -> dict[str, Any]:
    grid, core = target.grid, target.core
    return {
        "name": target.name,
        "family": target.family,
        "description": target.description,
        "hash": target.hash,
        "grid": {
            "tiles_x": grid.tiles_x,
            "tiles_y": grid.tiles_y,
            "cores_per_tile": grid.cores_per_tile,
            "chips": grid.chips,
            "host_port": list(grid.host_port),
        },
        "core": {
            "neurons": core.neurons,
            "in_axons": core.in_axons,
            "out_axons": core.out_axons,
            "synapse_bits": core.synapse_bits,
            "threshold_profiles": core.threshold_profiles,
        },
        "energy_sources": {profile.name: profile.source for profile in target.energy},
        "assumptions": list(target.assumptions),
    }


def synapse_count(connectivity: Connectivity) -> int:
    """Synapses with a non-zero weight, without listing them."""
    match connectivity:
        case Pool():
            return synapse_count(connectivity.as_conv())
        case Skip():
            per = size(connectivity.in_shape) // connectivity.in_shape[0]
            return int(np.count_nonzero(connectivity.weight)) * per
        case Conv2d():
            taps = np.count_nonzero(connectivity.weight, axis=(0, 1))
            rows, columns = (_reached(connectivity, axis) for axis in (0, 1))
            return int((taps * rows[:, None] * columns[None, :]).sum())
    return int(np.count_nonzero(connectivity.weight))


def _reached(conv: Conv2d, axis: int) -> Array:
    """For each tap along an axis, the output positions for which it lies inside the input."""
    positions = np.arange(conv.out_shape[1 + axis]) * conv.stride[axis] - conv.pads[axis]
    taps = np.arange(conv.weight.shape[2 + axis]) * conv.dilation[axis]
    inside = (positions[None, :] + taps[:, None] >= 0) & (positions[None, :] + taps[:, None] < conv.in_shape[1 + axis])
    return np.asarray(inside.sum(axis=1))


def _fullest(routed: Routed, name: str, use: Use) -> tuple[str | None, float | None]:
    """The resource that a layer's fullest core has least of, and the share that is used."""
    shares = [
        (used / limit, resource)
        for cluster in routed.clusters
        if any(piece.population == name for piece in cluster.slices)
        for resource, (used, limit) in sorted(use.get(cluster.id, {}).items())
        if limit
    ]
    if not shares:
        return None, None
    share, resource = max(shares, key=lambda pair: pair[0])
    return resource, float(share)


def _layer(routed: Routed, population: Population, use: Use, target: Target) -> dict[str, Any]:
    name = population.name
    ids = [c.id for c in routed.clusters if any(s.population == name for s in c.slices)]
    limit, used = _fullest(routed, name, use)
    rate = routed.rates.get(name)
    return {
        "name": name,
        "op": population.origin.op,
        "node": population.origin.node,
        "neurons": population.neurons,
        "synapses": sum(synapse_count(p.connectivity) for p in routed.network.incoming[name]),
        "cores": sum(i != HOST for i in ids),
        "limit": limit,
        "used": used,
        "rate": None if rate is None else float(rate),
        "note": "; ".join(_notes(routed, population, target)),
    }


def _notes(routed: Routed, population: Population, target: Target) -> list[str]:
    notes = []
    neuron = population.neuron
    if isinstance(neuron, Source):
        notes.append(f"the host sends it, {neuron.bits} bits a message")
    elif population.on_host:
        notes.append("computed by the host")
    elif population.name in routed.network.by_input:
        notes.append("input, driven by its bias")
    spec = routed.network.by_input.get(population.name)
    if spec is not None:
        notes.extend(_layout_notes(spec))
    notes.extend(_read_out_notes(routed.network, population.name))
    if not population.on_host and needs_microcode(neuron, target):
        notes.append("neuron microcode on hardware")
    return notes


def _layout_notes(spec: InputSpec) -> list[str]:
    """Where the file keeps its axes in another order than channels first: how they are read."""
    if spec.perm is None:
        return []
    given, read = ("x".join(str(n) for n in shape) for shape in (spec.shape, [spec.shape[a] for a in spec.perm]))
    last = spec.perm == (len(spec.perm) - 1, *range(len(spec.perm) - 1))
    return [f"{given}{' with channels last' if last else ''}, read as {read}"]


def _read_out_notes(network: Network, name: str) -> list[str]:
    """For each output that a population is read for: which, if there are several, and its head."""
    several = len(network.outputs) > 1
    return [
        "read-out" + (f" '{spec.name}'" if several else "") + (f", {spec.head} on the host" if spec.head else "")
        for spec in network.outputs
        if spec.population == name
    ]


def _cores(routed: Routed, events: EventCounts, use: Use) -> list[dict[str, Any]]:
    """One row per core; ``events.cores`` stand in the order of the clusters on the chip."""
    on_chip = [cluster for cluster in routed.clusters if cluster.id != HOST]
    counted = {c.id: core for c, core in zip(on_chip, events.cores, strict=False)}
    rows = []
    for cluster in on_chip:
        place, core = routed.places[cluster.id], counted.get(cluster.id)
        layers: dict[str, int] = {}
        for piece in cluster.slices:
            layers[piece.population] = layers.get(piece.population, 0) + piece.neurons
        rows.append(
            {
                "id": cluster.id,
                "chip": place.chip,
                "x": place.x,
                "y": place.y,
                "core": place.core,
                "neurons": cluster.neurons,
                "layers": layers,
                "use": {name: list(pair) for name, pair in sorted(use.get(cluster.id, {}).items())},
                "spikes": float(core.spikes) if core else None,
                "synops": float(core.synops) if core else None,
                "packets": float(core.packets_out) if core else None,
                "packets_received": float(core.packets_in) if core else None,
            }
        )
    return rows


def _times(profile: EnergyProfile) -> bool:
    """Whether a profile publishes times at all."""
    return bool(profile.synapse_ns or profile.neuron_ns or profile.sync_ns)


def _latency(routed: Routed, target: Target, events: EventCounts) -> dict[str, Any]:
    times = {p.name: float(estimate_latency(p, events)) for p in target.energy if _times(p)}
    network = routed.network
    return {
        "input_steps": network.timesteps,
        "pipeline_steps": network.pipeline_steps,
        "timesteps_total": network.timesteps_total,
        "us": max(times.values(), default=None),
        "us_by_profile": times,
    }
