"""What one inference costs: events counted by the simulator, energy and latency by published models."""

from __future__ import annotations

from typing import Any

from nmc.hardware.events import CoreEvents, EventCounts
from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import Diagnostic
from nmc.ir.layers import LayerGraph, Linear
from nmc.ir.mapping import HOST, Routed
from nmc.ir.reference import encode
from nmc.passes.partition.count import count_all
from nmc.passes.partition.limits import LIMITS
from nmc.runtime.report.static import static_report
from nmc.runtime.simulator import simulate, simulate_stopping
from nmc.runtime.stopping import MarginRule

EVENT_SAMPLES = 16
"""Calibration samples whose events are counted; the estimate is their mean."""


def measure_events(routed: Routed, inputs: Array, rule: MarginRule | None = None) -> EventCounts:
    """Mean events per inference over calibration samples, from the mapped program.

    Args:
        routed: what was placed.
        inputs: (N, ...) float32 calibration inputs.
        rule: ends the samples; None: they take all steps.

    Raises:
        ValueError: no inputs.
    """
    network = routed.network
    given, steps = encode(network, inputs[:EVENT_SAMPLES]), float(network.timesteps_total)
    run = simulate(routed, given) if rule is None else simulate_stopping(routed, given, rule)
    if run.steps is not None:
        steps = network.by_name[network.output.population].sends_from + float(run.steps.mean())
    counters = run.counters
    if counters is None or not counters.samples:
        raise ValueError("no inputs to count events on")
    n = counters.samples
    on_chip = [cluster for cluster in routed.clusters if cluster.id != HOST]
    cores = tuple(
        CoreEvents(
            cluster.neurons,
            counters.active_by_core.get(cluster.id, 0) / n,
            counters.spikes_by_core.get(cluster.id, 0) / n,
            counters.packets_by_core.get(cluster.id, 0) / n,
            counters.packets_received_by_core.get(cluster.id, 0) / n,
            counters.synops_by_core.get(cluster.id, 0) / n,
        )
        for cluster in on_chip
    )
    places = [routed.places[cluster.id] for cluster in on_chip]
    return EventCounts(
        neurons=sum(cluster.neurons for cluster in on_chip),
        timesteps_total=steps,
        synops=counters.synops / n,
        packets=counters.packets / n,
        hops_ew=counters.hops_ew / n,
        hops_ns=counters.hops_ns / n,
        spikes=sum(core.spikes for core in cores),
        active_updates=counters.active_updates / n,
        host_ops=counters.host_ops / n,
        tiles=len({(place.x, place.y) for place in places}),
        chips=len({place.chip for place in places}),
        cores=cores,
    )


def ann_macs(graph: LayerGraph) -> int:
    """Multiply-adds of one inference of the analog network as it was read, pads included."""
    total = 0
    for layer in graph.layers:
        if isinstance(layer.op, Linear):
            weight, out = layer.op.connectivity.weight, layer.op.connectivity.out_shape
            dense = weight.ndim == 2
            total += weight.size if dense else weight.size // out[0] * size(out)
    return total


def core_use(routed: Routed, target: Target) -> dict[int, dict[str, tuple[int, int | None]]]:
    """By core: resource to (used, limit), as the partition stage counts them."""
    return {
        core: {limit.name: (use.count(limit.name), limit.of(target.core)) for limit in LIMITS}
        for core, use in count_all(routed, target).items()
    }


def compile_report(
    graph: LayerGraph, routed: Routed, target: Target, events: EventCounts, diagnostics: tuple[Diagnostic, ...]
) -> dict[str, Any]:
    """The static part of the report (``report.json``).

    Args:
        graph: as read, for the ANN baseline.
        routed: what was placed.
        target: the chip.
        events: per inference.
        diagnostics: of the compile.
    """
    report = static_report(
        routed, target, events, use=core_use(routed, target), macs=ann_macs(graph), diagnostics=diagnostics
    )
    if events.timesteps_total != routed.network.timesteps_total:
        # What the estimates are for: samples that stop early.
        report["latency"]["mean_timesteps_total"] = events.timesteps_total
    return report
