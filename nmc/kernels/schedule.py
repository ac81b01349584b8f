"""The order in which a layer-wise executor may work: which populations wait for each other."""

from __future__ import annotations

import numpy as np

from nmc.ir.network import Network, Population, Projection


def recurrent_groups(network: Network) -> list[tuple[Population, ...]]:
    """Populations in an order in which each group needs the messages of groups before it only.

    A group is a strongly connected part of the network: one population, or several that
    lie on common loops. Within a group the order is the network's.
    """
    if not network.recurrent:
        return [(p,) for p in network.populations]
    place = {p.name: number for number, p in enumerate(network.populations)}
    edges = np.zeros((len(place), len(place)), dtype=np.bool_)
    for projection in network.projections:
        edges[place[projection.source], place[projection.target]] = True
    reach = edges | np.eye(len(place), dtype=np.bool_)
    for middle in range(len(place)):
        reach |= reach[:, middle, None] & reach[None, middle]
    together = reach & reach.T
    groups = list({tuple(np.flatnonzero(row).tolist()): None for row in together})
    # Whoever is reached by more groups comes later; equals keep the network's order.
    groups.sort(key=lambda group: (np.count_nonzero(reach[:, group[0]]), group[0]))
    return [tuple(network.populations[number] for number in group) for group in groups]


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
