"""SANA-FE's LIF neurons on its own model of Loihi: ``python -m peers.simulate_sanafe FILE.npz`` (see `peers.layers`).

Every synapse is given one by one: its convolutions take no padding. It has no windows: a layer begins a step after the
one before, so that later layers send fewer spikes than ours in the same steps. Potentials start at 0.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time

import numpy as np
import sanafe
import torch

from peers.layers import UNIT, Chain, Layer, read

IMAGES = 2
"""As each takes seconds."""

TIMING = "simple"
"""Its timing model: the fastest."""


def shapes(chain: Chain) -> list[torch.Size]:
    """Of the messages that each layer sends."""
    found, x = [], chain.images[:1]
    for layer in chain.layers:
        x = layer.current(x)
        found.append(x.shape[1:])
    return found


def edges(layer: Layer, shape: torch.Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, target and weight in units of v of every synapse that reads messages of a shape."""
    silent = Layer(layer.weight, layer.stride, layer.pads, layer.groups, 0, None, torch.zeros(1), layer.v0)
    count = int(np.prod(shape))
    parts = []
    for first in range(0, count, 512):
        ones = torch.zeros(min(512, count - first), count)
        ones[:, first:].fill_diagonal_(1.0)
        sent = silent.current(ones.unflatten(1, shape)).flatten(1).numpy()
        source, target = np.nonzero(sent)
        parts.append((source + first, target, sent[source, target]))
    source, target, weight = (np.concatenate(values) for values in zip(*parts, strict=True))
    return source, target, weight * 2.0**-layer.shift


def network(chain: Chain, image: torch.Tensor) -> sanafe.SpikingChip:
    """The chip with a network whose first layer is driven by the image as its bias."""
    chip = sanafe.load_loihi()
    cores = [core for tile in chip.tiles for core in tile.cores]
    snn, place, before, sizes = sanafe.Network(), 0, None, shapes(chain)
    for n, (layer, shape) in enumerate(zip(chain.layers, sizes, strict=True)):
        count = int(np.prod(shape))
        never = torch.full((1,), UNIT * 2.0**30)
        theta, bias = (t.expand(1, *shape).flatten().tolist() for t in (_all(layer.theta, never), layer.bias))
        if n == 0:
            bias = layer.current(image[None]).flatten().tolist()
        group = snn.create_neuron_group(f"layer{n}", count, model_attributes={"reset_mode": "soft", "leak_decay": 1.0})
        for index, neuron in enumerate(group):
            own = {"threshold": theta[index], "bias": bias[index], "force_update": True}
            neuron.set_attributes(soma_hw_name="loihi_lif", model_attributes=own)
            neuron.map_to_core(cores[place // 1024])
            place += 1
        if before is not None:
            source, target, weight = edges(layer, sizes[n - 1])
            pairs = list(zip(source.tolist(), target.tolist(), strict=True))
            before.connect_neurons_sparse(group, {"w": weight.tolist()}, pairs)
        before = group
    ready = sanafe.SpikingChip(chip)
    ready.load(snn)
    return ready


def _all(theta: torch.Tensor | None, never: torch.Tensor) -> torch.Tensor:
    return never.reshape(1, 1) if theta is None else theta


def main() -> int:
    """Print milliseconds per image and the spikes of all layers."""
    chain = read(sys.argv[1])
    times, spikes, build = [], [], 0.0
    for image in chain.images[:IMAGES]:
        begin = time.process_time()
        chip = network(chain, image)
        build = time.process_time() - begin
        begin = time.process_time()
        done = chip.sim(chain.steps, timing_model=TIMING, processing_threads=1)
        times.append(1000 * (time.process_time() - begin))
        spikes.append(int(done["neurons_fired"]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    found = {"ms": {TIMING: round(statistics.median(times), 1)}, "spikes": spikes}
    print(json.dumps(found | {"build_seconds": round(build, 1), "memory_mb": memory}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
