"""A recurrent reservoir in NEST: ``python -m peers.nest FILE.npz``, with the file of `peers.brian2`.

NEST has no reset by subtraction and no truncating integers: ``iaf_psc_exp`` with the same time constants, weights,
currents and thresholds in continuous numbers, reset to zero. Its spikes are therefore near ours and not equal.
"""

from __future__ import annotations

import json
import math
import sys
import time

import nest
import numpy as np


def main() -> int:
    """Print steps per second of processor time and the spikes of each neuron."""
    given = np.load(sys.argv[1])
    steps, count = int(given["timesteps"]), len(given["bias"])
    nest.set_verbosity("M_ERROR")
    nest.SetKernelStatus({"resolution": 1.0, "local_num_threads": 1, "print_time": False})
    # Decays of a step as time constants; a membrane of C pF that leaks with tau takes I / C mV in a millisecond.
    membrane = {
        "tau_m": -1 / math.log(1 - int(given["dv"]) / 4096),
        "tau_syn_ex": -1 / math.log(1 - (int(given["du"]) + 1) / 4096),
        "tau_syn_in": -1 / math.log(1 - (int(given["du"]) + 1) / 4096),
        "C_m": 1.0,
        "E_L": 0.0,
        "V_reset": 0.0,
        "V_th": float(given["theta"]),
        "t_ref": 0.0,
    }
    neurons = nest.Create("iaf_psc_exp", count, params=membrane)
    lasting = 4096 / (int(given["du"]) + 1)  # a constant sum, as u adds it up
    neurons.set({"V_m": given["v0"].astype(float), "I_e": given["bias"] + 64.0 * lasting * given["drive"]})
    ids = np.array(neurons.tolist())
    each = {"weight": 64.0 * given["weight"].astype(float), "delay": np.ones(len(given["weight"]))}
    nest.Connect(ids[given["source"]], ids[given["target"]], "one_to_one", {"synapse_model": "static_synapse", **each})
    recorder = nest.Create("spike_recorder")
    nest.Connect(neurons, recorder)
    nest.Simulate(1.0)
    begin = time.process_time()
    nest.Simulate(float(steps - 1))
    seconds = time.process_time() - begin
    senders = np.asarray(recorder.events["senders"])
    counts = np.bincount(senders - ids[0], minlength=count).tolist()
    print(json.dumps({"steps_per_second": round((steps - 1) / seconds), "counts": counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
