"""Sinabs' ``from_model``: ``python -m peers.sinabs FILE.npz``, with the file of `peers.spikingjelly`.

By default its neurons send several spikes in a step (MultiSpike); with one spike a step (SingleSpike) the weights
need its ``normalize_weights``, which knows plain chains only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from sinabs.activation import MultiSpike, SingleSpike
from sinabs.from_torch import from_model
from sinabs.utils import normalize_weights
from torch import nn

from peers.network import load, require_equal, run

BATCH = 100


def recipes(model: str, calib: torch.Tensor) -> Iterator[tuple[str, nn.Module, type]]:
    """Name, network to convert, and how its neurons fire."""
    yield "from_model, several spikes a step", load(model), MultiSpike
    yield "from_model, one spike a step", load(model), SingleSpike
    ann = load(model)
    names = [name for name, _ in ann.named_children()]
    relus = [name for name in names if name.startswith("relu")]
    if not any(name.startswith("shortcut") for name in names):
        before = [[n for n in names[: names.index(relu)] if n.startswith("conv")][-1] for relu in relus]
        normalize_weights(ann, calib, relus, before, 99.9)
        yield "normalize_weights 99.9 %, one spike a step", ann, SingleSpike


def spike(ann: nn.Module, fires: type, x: np.ndarray, steps: int) -> np.ndarray:
    """(T, N, classes) logits of every step; the state starts anew for every batch."""
    snn = from_model(ann, spike_fn=fires, batch_size=BATCH).spiking_model
    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(x).split(BATCH):
            for module in snn.modules():
                if hasattr(module, "reset_states") and module is not snn:
                    module.reset_states()
            flat = part[:, None].expand(-1, steps, *part.shape[1:]).flatten(0, 1)
            parts.append(snn(flat).unflatten(0, (len(part), steps)).transpose(0, 1).numpy())
    return np.concatenate(parts, axis=1)


def main() -> int:
    """Print the answers."""
    torch.set_num_threads(1)
    given = np.load(sys.argv[1])
    model, steps = str(given["model"]), sorted(int(t) for t in given["timesteps"])
    apart = require_equal(run(load(model), given["x"]), given["wanted"])
    rows = []
    for name, ann, fires in recipes(model, torch.from_numpy(given["calib"])):
        begin = time.process_time()
        outputs = spike(ann, fires, given["x"], steps[-1])
        each = 1e3 * (time.process_time() - begin) / (len(given["x"]) * steps[-1])
        for count in steps:
            answers = outputs[:count].mean(0).argmax(1).tolist()
            rows.append({"recipe": name, "timesteps": count, "answers": answers})
        rows[-1]["ms_per_image_step"] = round(each, 3)
    print(json.dumps({"apart": apart, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
