"""Small chips for the tests of the mapping passes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.resources import files

import numpy as np

from nmc.hardware.target import CoreLimits, Grid, MessageLimits, NeuronLimits, Target, WeightLimits
from nmc.hardware.target_file import load_target
from nmc.ir.diagnostic import DiagnosticSink
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.ir.neurons import Reset
from nmc.passes.base import Context, Pass, Pipeline
from nmc.passes.check import CheckMapping
from nmc.passes.partition import partition_passes
from nmc.passes.place import placement_pass
from nmc.passes.route import RouteXY

LIMITS = CoreLimits(neurons=64, in_axons=100, out_axons=256, synapse_bits=16000, threshold_profiles=4)


def chip(limits: CoreLimits = LIMITS, *, shared: bool = True, **grid: object) -> Target:
    """A 4 x 3 mesh of tiles with 2 cores, unless said otherwise."""
    shape = {"tiles_x": 4, "tiles_y": 3, "cores_per_tile": 2, "chips": 1, "chips_max": 8, **grid}
    return Target(
        "small",
        "test",
        "",
        Grid(**shape),  # type: ignore[arg-type]
        limits,
        NeuronLimits(("lif", "graded-relu"), (Reset.ZERO,)),
        MessageLimits(8, 8),
        WeightLimits(9, 2, -256, 254, shared=shared),
        (),
    )


def loihi(name: str) -> Target:
    """A target of the package."""
    folder = files("nmc.backends.loihi") / "targets"
    return load_target((folder / f"{name}.toml").read_text(), lambda base: (folder / f"{base}.toml").read_text())


@dataclass
class Calibration:
    """An oracle with inputs only."""

    inputs: np.ndarray = field(default_factory=lambda: np.zeros((0,), dtype=np.float32))
    from_data: bool = True

    def activations(self, names: object) -> dict[str, np.ndarray]:
        raise AssertionError(f"mapping passes look at messages, not at activations of {names}")


def context(target: Target, *, seed: int = 0, inputs: np.ndarray | None = None) -> Context:
    """A context without calibration inputs, unless given."""
    calibration = Calibration() if inputs is None else Calibration(inputs)
    return Context(target, DiagnosticSink(), calibration, seed)


def mapped(
    network: Network,
    target: Target,
    *,
    partitioner: str = "tiles",
    placer: str = "row-major",
    chips: int | None = None,
    check: bool = True,
) -> Routed:
    """The network through the mapping passes."""
    last: tuple[Pass, ...] = (CheckMapping(),) if check else ()
    steps = (*partition_passes(partitioner, chips), placement_pass(placer, chips), RouteXY(), *last)
    routed = Pipeline(steps).run(network, context(target))
    if not isinstance(routed, Routed):
        raise TypeError("the pipeline ends with a Routed")
    return routed


def tight(**limits: int | None) -> Target:
    """The small chip with some limits changed."""
    return chip(replace(LIMITS, **limits))
