"""A recurrent reservoir in Brian2's C++ code: ``python -m peers.brian2 FILE.npz``.

FILE holds ``source``, ``target`` and ``weight`` of the synapses, ``drive`` (what the input adds to each neuron's sum in
each step), ``bias``, ``v0`` and ``theta`` in units of v, ``du``, ``dv`` and ``timesteps``. The updates below are those
of the LIF of docs/arithmetic.md, exact in float64. Prints steps per second of processor time, the start of the program
taken off, and the spikes of each neuron.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile

import brian2 as b
import numpy as np

UPDATE = """
u = sign(u) * floor(abs(u) * kept_u / 4096) + 64 * (a + drive)
v = clip(sign(v) * floor(abs(v) * kept_v / 4096) + u + bias, -8388607, 8388607)
a = 0
"""


def simulated(given: dict[str, np.ndarray], steps: int) -> tuple[float, list[int]]:
    """Processor seconds of the compiled program, and the spikes of each neuron."""
    with tempfile.TemporaryDirectory() as folder:
        b.device.reinit()
        b.set_device("cpp_standalone", build_on_run=False)
        b.defaultclock.dt = 1 * b.ms
        b.prefs.devices.cpp_standalone.openmp_threads = 0
        held = {
            "kept_u": 4096 - int(given["du"]) - 1,
            "kept_v": 4096 - int(given["dv"]),
            "theta": float(given["theta"]),
        }
        group = b.NeuronGroup(
            len(given["bias"]),
            "u : 1\nv : 1\na : 1\ndrive : 1 (constant)\nbias : 1 (constant)",
            threshold="v > theta",
            reset="v -= theta",
            namespace=held,
        )
        group.v, group.bias, group.drive = given["v0"], given["bias"], given["drive"]
        update = group.run_regularly(UPDATE, when="start")
        synapses = b.Synapses(group, group, "w : 1", on_pre="a_post += w")
        synapses.connect(i=given["source"], j=given["target"])
        synapses.w = given["weight"]
        spikes = b.SpikeMonitor(group, record=False)
        network = b.Network(group, update, synapses, spikes)
        network.run(steps * b.ms)
        b.device.build(directory=folder, compile=True, run=False)
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        b.device.run(folder, with_output=False, run_args=[])
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        counts = np.asarray(spikes.count[:]).astype(int).tolist()
        return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime, counts


def main() -> int:
    """Print speed and spikes."""
    given = dict(np.load(sys.argv[1]))
    steps = int(given["timesteps"])
    seconds, counts = simulated(given, steps)
    start, _ = simulated(given, 1)
    print(json.dumps({"steps_per_second": round((steps - 1) / max(seconds - start, 1e-9)), "counts": counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
