"""Whether a quantized network fits a chip: what each layer needs, what is split, how many cores it takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from nmc.backends.api import Backend, Options
from nmc.compiler.plugins import pipeline_of
from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import DiagnosticSink, ExitCode, NmcError
from nmc.ir.mapping import Partitioned
from nmc.ir.network import Network
from nmc.passes.base import Context, Pipeline
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import LayerFit, feasibility, least_cores
from nmc.passes.partition.limits import LIMITS
from nmc.passes.partition.split_fan_in import SplitFanIn, refusal
from nmc.runtime.tables import TextTable

STAGES = ("partition", "place")


@dataclass(frozen=True)
class NoInputs:
    """An oracle without inputs: every population then counts one message a step."""

    inputs: Array = field(default_factory=lambda: np.zeros((0,), dtype=np.float32))
    from_data: bool = False

    def activations(self, names: Iterable[str]) -> dict[str, Array]:
        """None are known.

        Raises:
            LookupError: always.
        """
        raise LookupError(f"no activations of {', '.join(names)}: there are no inputs")


@dataclass(frozen=True)
class Needs:
    """What a network needs of a target at least.

    Attributes:
        layers: in the order of the network.
        cores: for the whole network, and ``limit``, what asks for them.
    """

    layers: tuple[LayerFit, ...]
    cores: int
    limit: str

    def to_dict(self) -> dict[str, object]:
        """The part of ``check --json``."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "least_cores": self.cores,
            "least_limit": self.limit,
        }

    def table(self) -> TextTable:
        """A row per layer: the cores that each limit asks for, and what is done about it."""
        limits = [limit.name for limit in LIMITS if self.layers and limit.name in self.layers[0].cores]
        words = [name.replace("_", " ") for name in limits]
        columns = ("layer", "#neurons", "#fan-in", *(f"#by {word}" for word in words), "limit", "what to do")
        rows = tuple(
            (
                layer.layer,
                f"{layer.neurons:,}",
                f"{layer.fan_in:,}",
                *(f"{layer.cores[name]:,}" for name in limits),
                layer.limit.replace("_", " "),
                layer.fix or "-",
            )
            for layer in self.layers
        )
        return TextTable("cores that each layer needs at least", columns, rows)


def needs_of(network: Network, target: Target) -> Needs:
    """What a quantized network needs, before it is mapped."""
    context = Context(target, DiagnosticSink(), NoInputs())
    split = SplitFanIn().run(network, context)
    before, after = DemandModel.of(network, target, {}), DemandModel.of(split, target, {})
    kept = {fit.layer: fit for fit in feasibility(after)}
    layers = []
    for fit in feasibility(before):
        relays = [kept[name] for name in kept if name.startswith(f"{fit.layer}/parts") and name not in network.by_name]
        if relays:
            layers.append(fit.with_relays(relays))
        elif fit.exceeded:
            layers.append(fit.refused(refusal(target, fit.exceeded)))
        else:
            layers.append(fit)
    return Needs(tuple(layers), *least_cores(after))


def placed_quickly(network: Network, backend: Backend, target: Target) -> Partitioned:
    """The quantized network on cores, by the quickest partitioner that finds room.

    Raises:
        NmcError: it does not fit (exit 4).
    """
    try:
        return _placed(network, backend, target, "tiles")
    except NmcError as error:
        if error.exit_code is not ExitCode.DOES_NOT_FIT:
            raise
    return _placed(network, backend, target, "auto")


def _placed(network: Network, backend: Backend, target: Target, partitioner: str) -> Partitioned:
    options = Options(partitioner=partitioner, placer="row-major")
    steps = [step for step in pipeline_of(backend, target, options).steps if step.stage in STAGES]
    program = Pipeline(tuple(steps)).run(network, Context(target, DiagnosticSink(), NoInputs()))
    if not isinstance(program, Partitioned):
        raise TypeError(f"the place stage made a {type(program).__name__}")
    return program
