"""The order in which a layer-wise executor may work: which populations wait for each other."""

from __future__ import annotations

from nmc.ir.network import Network, Population, Projection


def recurrent_groups(network: Network) -> list[tuple[Population, ...]]:
    """Populations in an order in which each group needs the messages of groups before it only.

    A group is a strongly connected part of the network: one population, or several that
    lie on common loops. Within a group the order is the network's.
    """
    if not network.recurrent:
        return [(p,) for p in network.populations]
    import networkx  # takes a while, and most networks have no loops

    place = {p.name: number for number, p in enumerate(network.populations)}
    graph: networkx.DiGraph = networkx.DiGraph()
    graph.add_nodes_from(place.values())
    graph.add_edges_from((place[q.source], place[q.target]) for q in network.projections)
    parts = networkx.condensation(graph)
    members = {part: sorted(parts.nodes[part]["members"]) for part in parts}
    # Where the projections leave a choice, the network's order decides.
    order = networkx.lexicographical_topological_sort(parts, key=lambda part: members[part][0])
    return [tuple(network.populations[number] for number in members[part]) for part in order]


def lag(network: Network, projection: Projection) -> int:
    """Steps of the window between a message and its sum: the message of step s counts in step ``s + lag``.

    Windows are matched to forward projections, so only a recurrent one has a lag; it is
    below 0 where the source's window opens early enough.
    """
    if projection.name not in network.recurrent:
        return 0
    source, target = network.by_name[projection.source], network.by_name[projection.target]
    return source.sends_from + projection.delay - target.start


def is_loop(network: Network, group: tuple[Population, ...]) -> bool:
    """Whether a group has to go step by step: it has a projection to itself."""
    names = {p.name for p in group}
    return any(p.source in names for q in group for p in network.incoming[q.name])
