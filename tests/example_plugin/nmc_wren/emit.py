"""One readable JSON file per core: its neurons, the synapses behind its axons, its routes."""

import json

import numpy as np

from nmc.ir.mapping import Cluster, Routed, box_indices, region_mask
from nmc.ir.network import Population
from nmc.ir.neurons import LIF, Integrator


def emit_core(routed: Routed, cluster: Cluster) -> bytes:
    """The program of one core; equal mappings give equal bytes."""
    network, projections = routed.network, {p.name: p for p in routed.network.projections}
    neurons: list[dict[str, object]] = []
    number: dict[tuple[int, int], int] = {}  # (slice, neuron of the population) -> neuron of the core
    for position, piece in enumerate(cluster.slices):
        population = network.by_name[piece.population]
        for index in box_indices(piece.box, population.shape).tolist():
            number[position, index] = len(neurons)
            neurons.append(_parameters(population, index))
    axons: dict[str, list[list[object]]] = {}  # "population[neuron]" -> the synapses that it drives
    for axon in cluster.axons:
        p = projections[axon.projection]
        per_channel = network.by_name[p.target].neurons // p.connectivity.out_shape[0]
        shifts = np.broadcast_to(p.shift, p.connectivity.out_shape[:1]).repeat(per_channel).tolist()
        heard = region_mask(axon.region, network.by_name[p.source].shape).reshape(-1)
        for target, source, weight in zip(*(a.tolist() for a in p.connectivity.synapses()), strict=True):
            if heard[source] and (axon.slice, target) in number:
                synapse = [number[axon.slice, target], p.name, weight, shifts[target], axon.delay]
                axons.setdefault(f"{p.source}[{source}]", []).append(synapse)
    routes = []
    for route in (r for r in routed.routes if r.source == cluster.id):
        sends = np.flatnonzero(region_mask(route.region, network.by_name[cluster.slices[route.slice].population].shape))
        senders = [number[route.slice, i] for i in sends.tolist() if (route.slice, i) in number]
        routes.append({"to": route.destination, "tiles": route.links, "neurons": senders})
    core = {"core": cluster.id, "neurons": neurons, "axons": axons, "routes": routes}
    return (",\n".join(json.dumps({key: value})[1:-1] for key, value in core.items())).join(("{\n", "\n}\n")).encode()


def _parameters(population: Population, index: int) -> dict[str, object]:
    """What one neuron of the chip stores; a read-out has no threshold."""
    model = population.neuron
    if not isinstance(model, LIF | Integrator):
        raise TypeError(f"Wren has no {type(model).__name__}")
    names = ("bias_mant", "bias_exp", "v0") + (("threshold",) if isinstance(model, LIF) else ())
    stored = {name: int(np.broadcast_to(getattr(model, name), population.shape).flat[index]) for name in names}
    place = {"of": population.name, "index": index, "start": population.start}
    return {**place, **stored, "reset": str(getattr(model, "reset", ""))}
