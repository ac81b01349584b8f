"""Runs the emitted files, and nothing else, in the chip's own arithmetic."""

import json
from collections import Counter, defaultdict
from typing import Any

import numpy as np

from nmc.ir.connectivity import Array
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Execution, Trace

LIMIT = (1 << 23) - 1  # potentials saturate at 24 bits


class WrenInterpreter:
    """The device `wren`."""

    name = "wren"

    def missing(self) -> str | None:
        return None

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        network, places = artifact.network, artifact.network.input_places
        shapes = {p.name: (len(inputs), network.timesteps, *p.shape) for p in network.populations}
        spikes, potentials = ({n: np.zeros(shape, np.int64) for n, shape in shapes.items()} for _ in range(2))
        for sample, drive in enumerate(inputs.reshape(len(inputs), -1).tolist()):
            cores: dict[int, Any] = {core["core"]: core for core in map(json.loads, artifact.payload.values())}
            pending: defaultdict[int, Counter[Any]] = defaultdict(Counter)  # step -> sums that arrive then
            for step in range(network.timesteps_total):
                a: Counter[Any] = Counter()
                for (core, neuron, _, shift), total in pending.pop(step, Counter()).items():
                    a[core, neuron] += total >> shift if shift >= 0 else total << -shift
                for core, program in cores.items():
                    for neuron, cell in enumerate(program["neurons"]):
                        t, of, index = step - cell["start"], cell["of"], cell["index"]
                        if not 0 <= t < network.timesteps:
                            continue  # outside its window a neuron is frozen
                        bias = drive[places[of].start + index] if of in places else cell["bias_mant"]
                        v = max(-LIMIT, min(LIMIT, cell["v0"] + (a[core, neuron] << 6) + (bias << cell["bias_exp"])))
                        threshold = cell.get("threshold", LIMIT) << 6
                        if v > threshold:
                            v = 0 if cell["reset"] == "zero" else v - threshold
                            spikes[of].reshape(*spikes[of].shape[:2], -1)[sample, t, index] = 1
                            for route in program["routes"]:
                                if neuron in route["neurons"]:
                                    heard = cores[route["to"]]["axons"].get(f"{of}[{index}]", ())
                                    for target, projection, weight, shift, delay in heard:
                                        pending[step + delay][route["to"], target, projection, shift] += weight
                        cell["v0"] = v
                        potentials[of].reshape(*potentials[of].shape[:2], -1)[sample, t, index] = v
        return Execution(tuple(potentials[o.population][:, -1] for o in network.outputs), Trace(spikes, potentials))
