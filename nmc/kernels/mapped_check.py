"""What a mapping must name correctly before it can be executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nmc.ir.connectivity import Shape
from nmc.ir.diagnostic import DiagnosticSink, ExitCode
from nmc.ir.mapping import AxonGroup, Cluster, Region, Routed
from nmc.ir.network import Network, Projection
from nmc.ir.neurons import IdealIntegrator

Report = Callable[[str], None]


def _inside(region: Region, shape: Shape) -> bool:
    return all(
        len(box) == len(shape)
        and all(0 <= start < stop <= n and step >= 1 for (start, stop, step), n in zip(box, shape, strict=True))
        for box in region
    )


def check_executable(routed: Routed) -> None:
    """Refuse what cannot be executed at all; whether it is right is the checker's business.

    Raises:
        NmcError: with everything that is named and does not exist.
    """
    network, sink = routed.network, DiagnosticSink()

    def broken(message: str) -> None:
        sink.error("mapping-broken", message, help="recompile the network; the mapping names what does not exist")

    projections = {p.name: p for p in network.projections}
    if not network.is_integer or any(isinstance(p.neuron, IdealIntegrator) for p in network.populations):
        broken(f"network '{network.name}' is not quantized")
    for cluster in routed.clusters:
        for number, piece in enumerate(cluster.slices):
            population = network.by_name.get(piece.population)
            if population is None or not _inside((piece.box,), population.shape):
                broken(f"core {cluster.id}: slice {number} holds {piece.box} of '{piece.population}', which has none")
        for axon in cluster.axons:
            _check_axon(axon, cluster, projections, network, broken)
    for route in routed.routes:
        source = routed.by_id.get(route.source)
        if source is None or route.destination not in routed.by_id or not 0 <= route.slice < len(source.slices):
            broken(f"a route leads from slice {route.slice} of core {route.source} to core {route.destination}")
            continue
        population = network.by_name.get(source.slices[route.slice].population)
        if population is not None and not _inside(route.region, population.shape):
            broken(f"a route of core {route.source} names neurons that '{population.name}' does not have")
    sink.raise_errors(ExitCode.INTERNAL)


def _check_axon(
    axon: AxonGroup, cluster: Cluster, projections: Mapping[str, Projection], network: Network, report: Report
) -> None:
    projection = projections.get(axon.projection)
    if projection is None:
        report(f"core {cluster.id}: an axon group names projection '{axon.projection}', which does not exist")
        return
    if not 0 <= axon.slice < len(cluster.slices):
        report(f"core {cluster.id}: an axon group of '{axon.projection}' drives slice {axon.slice}, which is not there")
    elif cluster.slices[axon.slice].population != projection.target:
        report(f"core {cluster.id}: '{axon.projection}' drives a slice of '{cluster.slices[axon.slice].population}'")
    if not _inside(axon.region, network.by_name[projection.source].shape):
        report(f"core {cluster.id}: an axon group of '{axon.projection}' names neurons that do not exist")
    if axon.delay < 1:
        report(f"core {cluster.id}: an axon group of '{axon.projection}' has a delay of {axon.delay} steps")
