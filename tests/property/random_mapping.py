"""A mapper that shares no code with the passes: random boxes, exact axons, XY routes."""

import itertools

import numpy as np

from nmc.ir.connectivity import size
from nmc.ir.mapping import HOST, AxonGroup, Cluster, Place, Route, Routed, Slice, box_indices
from nmc.ir.neurons import Source


def random_cuts(rng, shape):
    """Boxes that cover a shape once; some of them strided."""
    axes = []
    for n in shape:
        if n > 3 and rng.random() < 0.15:
            step = int(rng.integers(2, 4))
            axes.append([(start, n, step) for start in range(step)])
            continue
        cuts = np.unique(rng.integers(1, n + 1, size=int(rng.integers(0, 3))))
        edges = [0, *(int(c) for c in cuts if 0 < c < n), n]
        axes.append([(a, b, 1) for a, b in itertools.pairwise(edges)])
    boxes = [()]
    for axis in axes:
        boxes = [(*box, part) for box in boxes for part in axis]
    return boxes


def region_of(neurons, shape):
    """Exact boxes of some flat neurons: stretches along the last axis, which may overlap in nothing."""
    boxes = []
    row = shape[-1]
    for n in sorted(int(n) for n in neurons):
        *outer, last = (int(c) for c in np.unravel_index(n, shape))
        before = boxes[-1] if boxes else None
        head = tuple((c, c + 1, 1) for c in outer)
        if before is not None and before[:-1] == head and before[-1][1] == last and n % row != 0:
            boxes[-1] = (*head, (before[-1][0], last + 1, 1))
        else:
            boxes.append((*head, (last, last + 1, 1)))
    return tuple(boxes)


def xy_path(a, b):
    """Tiles from a to b, first along x."""
    path = [a]
    while path[-1] != b:
        x, y = path[-1]
        if x != b[0]:
            path.append((x + (1 if b[0] > x else -1), y))
        else:
            path.append((x, y + (1 if b[1] > y else -1)))
    return tuple(path)


def sources_by_slice(network, piece):
    """By projection into the slice: the source neurons with a synapse there."""
    inside = np.zeros(size(network.by_name[piece.population].shape), dtype=bool)
    inside[box_indices(piece.box, network.by_name[piece.population].shape)] = True
    heard = {}
    for projection in network.incoming[piece.population]:
        target, source, _ = projection.connectivity.synapses()
        heard[projection.name] = np.unique(source[inside[target]])
    return heard


def random_mapping(network, seed, cores=5):
    """A `Routed` that executes ``network`` exactly, with everything drawn from the seed."""
    rng = np.random.default_rng([seed, *b"mapping"])
    slices = {HOST: [], **{core: [] for core in range(cores)}}
    for population in network.populations:
        on_host = population.on_host or isinstance(population.neuron, Source)
        for box in random_cuts(rng, population.shape):
            slices[HOST if on_host else int(rng.integers(0, cores))].append(Slice(population.name, box))
    used = {core: held for core, held in slices.items() if held}
    width = 4
    spots = rng.permutation(width * 3)[: cores + 1]
    places = {core: Place(0, int(spots[core + 1]) % width, int(spots[core + 1]) // width) for core in used}
    by_name = {p.name: p for p in network.projections}
    clusters, reads = [], {}
    for core, held in used.items():
        axons = []
        for number, piece in enumerate(held):
            for name, heard in sources_by_slice(network, piece).items():
                source = by_name[name].source
                shape = network.by_name[source].shape
                # Two groups where one would do: a region is any split of the sources.
                parts = np.array_split(rng.permutation(heard), int(rng.integers(1, 3)))
                for part in parts:
                    if len(part):
                        axons.append(AxonGroup(name, number, region_of(part, shape), by_name[name].delay))
                reads.setdefault((core, source), set()).update(int(n) for n in heard)
        order = rng.permutation(len(axons))
        origins = tuple(network.by_name[s.population].origin for s in held)
        clusters.append(Cluster(core, tuple(held), tuple(axons[i] for i in order), origins))
    routes = []
    for cluster in clusters:
        for number, piece in enumerate(cluster.slices):
            shape = network.by_name[piece.population].shape
            mine = {int(n) for n in box_indices(piece.box, shape)}
            for (core, source), neurons in reads.items():
                if source == piece.population and mine & neurons:
                    a, b = places[cluster.id], places[core]
                    links = xy_path((a.x, a.y), (b.x, b.y))
                    routes.append(Route(cluster.id, number, region_of(mine & neurons, shape), core, links))
    return Routed(network, tuple(clusters), {}, places, tuple(routes))
