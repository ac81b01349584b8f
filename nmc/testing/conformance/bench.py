"""Compiles the suite's networks for a backend, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from nmc import __version__
from nmc.backends.api import Backend, Options
from nmc.compiler.estimate import compile_report, measure_events
from nmc.hardware.target import Target
from nmc.ir.connectivity import Array, size
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.layers import LayerGraph
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.ir.neurons import Reset
from nmc.ir.verify import verify_program
from nmc.passes.base import Hooks, Pass, Program
from nmc.runtime.artifact import Artifact
from nmc.testing.builders import context_for
from nmc.testing.conformance.networks import inputs_of, networks

CROWD = 40
"""Neurons of a core where the suite's networks are mapped: their layers have 16 to 144."""


@dataclass(frozen=True)
class Case:
    """One network for one target in one code.

    Attributes:
        coding: ``rate`` or ``graded``.
        reset: of spiking neurons; None for graded coding.
    """

    target: str
    network: str
    coding: str
    reset: Reset | None = None

    def __str__(self) -> str:
        return "-".join(str(part) for part in (self.target, self.network, self.coding, self.reset) if part)


def offers_graded(target: Target) -> bool:
    """Whether a target says that it can do graded coding."""
    return "graded-relu" in target.neurons.models and target.messages.graded_bits > 0 and target.messages.input_bits > 0


def cases(targets: Mapping[str, Target]) -> Iterator[Case]:
    """Every network on every target, in every code and reset that it offers."""
    for name, target in targets.items():
        for network in networks():
            for reset in target.neurons.resets if "lif" in target.neurons.models else ():
                yield Case(name, network, "rate", reset)
            if offers_graded(target):
                yield Case(name, network, "graded")


@dataclass(frozen=True, eq=False)
class Bench:
    """A backend and what was compiled for it.

    Attributes:
        make: the backend's class.
        timesteps: T of rate coding.
    """

    make: Callable[[], Backend]
    timesteps: int = 24
    _done: dict[Case, Artifact | NmcError] = field(default_factory=dict)

    def target(self, name: str) -> Target:
        """One of the backend's targets."""
        return self.make().targets()[name]

    def inputs(self, case: Case) -> Array:
        """Float samples of a case's network."""
        return inputs_of(case.network, networks()[case.network])

    def attempt(self, case: Case) -> Artifact | NmcError:
        """The compiled case, or why the backend refused it."""
        if case not in self._done:
            try:
                self._done[case] = self.compile(case)
            except NmcError as refusal:
                self._done[case] = refusal
        return self._done[case]

    def compile(self, case: Case, target: Target | None = None, pins: Mapping[str, str] | None = None) -> Artifact:
        """Compile a case anew, for a changed target or with pinned layers where they are given.

        Raises:
            NmcError: the backend refuses it.
        """
        graph, inputs = networks()[case.network], self.inputs(case)
        backend, target = self.make(), target or crowded(self.target(case.target), graph)
        options = Options(timesteps=self.timesteps, coding=case.coding, reset=case.reset, pins=pins or {})
        context = context_for(graph, inputs, target)
        levels: list[Program] = [graph]

        def after(step: Pass, program: Program, seconds: float) -> None:
            levels.append(program)

        pipeline = backend.pipeline(target, options)
        routed = pipeline.run(graph, context, Hooks(verify_program, after))
        if not isinstance(routed, Routed):
            raise NmcError.single("pass-broke-invariant", "the pipeline does not end with a Routed", ExitCode.INTERNAL)
        simplified = [level for level in levels if isinstance(level, LayerGraph)][-1]
        spiking = [level for level in levels if isinstance(level, Network) and not level.is_integer][-1]
        report = compile_report(graph, routed, target, measure_events(routed, inputs), tuple(context.diagnostics.items))
        manifest = {
            "nmc": __version__,
            "target": {"name": target.name, "family": target.family, "hash": target.hash},
            "pipeline": pipeline.text,
            "source": {"name": graph.name, "sha256": ""},
            "timesteps": routed.network.timesteps,
            "coding": case.coding,
            "assumptions": list(target.assumptions),
        }
        payload = backend.emit(routed, target, options)
        return Artifact(manifest, routed, simplified, spiking, b"", report, payload, target.grid)


def crowded(target: Target, graph: LayerGraph) -> Target:
    """The target with smaller cores, so that a small network spreads over several and has routes."""
    total = 2 * sum(size(layer.shape) for layer in graph.layers)
    cores = target.grid.cores_per_chip * target.grid.chips
    return shrunk(target, neurons=min(target.core.neurons, max(CROWD, -(-total // cores))))


def shrunk(target: Target, **limits: int) -> Target:
    """The target with some limits of its cores changed."""
    return replace(target, core=replace(target.core, **limits))


def one_core(target: Target) -> Target:
    """The target with a single core."""
    grid = replace(target.grid, tiles_x=1, tiles_y=1, cores_per_tile=1, chips=1, chips_max=1)
    return replace(target, grid=replace(grid, host_port=(0, 0), unavailable_cores=()))
