"""Messages of every neuron over inputs: what packets are counted from where neurons of a layer differ."""

from __future__ import annotations

import numpy as np

from nmc.ir.connectivity import Array
from nmc.ir.network import Network
from nmc.kernels.layerwise import LaidNetwork, joined_channels_last
from nmc.kernels.parallel import parallel
from nmc.kernels.propagate import from_channels_last


def message_counts(network: Network, inputs: Array) -> dict[str, Array]:
    """Non-zero messages of each neuron per input, by population, in its shape (float64).

    Args:
        network: aligned.
        inputs: (N, *network.input_shape) integers, N at least 1.
    """
    laid = LaidNetwork.lay(network)
    flat_inputs = joined_channels_last(network, inputs)
    counts: list[dict[str, Array]] = [{} for _ in inputs]

    def one(index: int) -> None:
        for population, messages, _ in laid.run(flat_inputs[index]):
            counts[index][population.population.name] = np.count_nonzero(messages, axis=0)

    parallel(one, len(inputs))
    shapes = {p.name: p.shape for p in network.populations}
    summed = {name: np.sum([part[name] for part in counts], axis=0) / len(inputs) for name in counts[0]}
    return {name: from_channels_last(sums[None], shapes[name])[0] for name, sums in summed.items()}
