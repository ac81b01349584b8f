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
from nmc.passes.base import Context, Hooks, Pass, Pipeline, Program
from nmc.runtime.artifact import Artifact
from nmc.testing.builders import context_for
from nmc.testing.conformance.networks import SAMPLES, inputs_of, networks
from nmc.testing.conformance.neuron_networks import neuron_inputs, neuron_kinds, neuron_network

CROWD = 40
"""Neurons of a core where the suite's networks are mapped: their layers have 16 to 144."""


NEURONS = "neurons"
"""In place of a coding: a network of `neuron_network`, which enters the pipeline where it is partitioned."""


@dataclass(frozen=True)
class Case:
    """One network for one target in one code.

    Attributes:
        coding: ``rate``, ``graded``, or `NEURONS`.
        reset: of spiking neurons in rate coding; None else.
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


def neuron_cases(targets: Mapping[str, Target]) -> Iterator[Case]:
    """A network for every neuron that a target names, and one with loops."""
    for name, target in targets.items():
        for kind in neuron_kinds(target):
            yield Case(name, kind, NEURONS)


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
        if case.coding == NEURONS:
            return neuron_inputs(neuron_network(case.network, self.target(case.target)), SAMPLES)
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
        if case.coding == NEURONS:
            return self._mapped(case)
        graph, inputs = networks()[case.network], self.inputs(case)
        backend, target = self.make(), target or crowded(self.target(case.target), graph)
        options = Options(timesteps=self.timesteps, coding=case.coding, reset=case.reset, pins=pins or {})
        context = context_for(graph, inputs, target)
        levels: list[Program] = [graph]

        def after(step: Pass, program: Program, seconds: float) -> None:
            levels.append(program)

        pipeline = backend.pipeline(target, options)
        routed = _routed(pipeline.run(graph, context, Hooks(verify_program, after)))
        simplified = [level for level in levels if isinstance(level, LayerGraph)][-1]
        spiking = [level for level in levels if isinstance(level, Network) and not level.is_integer][-1]
        return self._artifact(case, pipeline, context, (graph, simplified, spiking), routed, options)

    def _mapped(self, case: Case) -> Artifact:
        """Map and emit a network that is quantized already, by the passes from the partition stage on."""
        target = self.target(case.target)
        network = neuron_network(case.network, target)
        total = sum(population.neurons for population in network.populations)
        target = _roomy(target, 2 * total)
        backend = self.make()
        options = Options(coding="rate" if "lif" in target.neurons.models else "graded")
        steps = backend.pipeline(target, options).steps
        first = next(number for number, step in enumerate(steps) if step.stage == "partition")
        # No layer graph is behind these networks: the smallest one stands in for it in the artifact.
        graph = networks()["dense"]
        context = context_for(graph, self.inputs(case), target)
        pipeline = Pipeline(steps[first:])
        routed = _routed(pipeline.run(network, context, Hooks(verify_program)))
        return self._artifact(case, pipeline, context, (graph, graph, network), routed, options)

    def _artifact(
        self,
        case: Case,
        pipeline: Pipeline,
        context: Context,
        levels: tuple[LayerGraph, LayerGraph, Network],
        routed: Routed,
        options: Options,
    ) -> Artifact:
        """The artifact of a mapping; ``levels`` are the graph as read, simplified, and the spiking network."""
        graph, simplified, spiking = levels
        target, backend = context.target, self.make()
        events = measure_events(routed, context.calibration.inputs)
        report = compile_report(graph, routed, target, events, tuple(context.diagnostics.items))
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


def _routed(program: Program) -> Routed:
    if isinstance(program, Routed):
        return program
    raise NmcError.single("pass-broke-invariant", "the pipeline does not end with a Routed", ExitCode.INTERNAL)


def crowded(target: Target, graph: LayerGraph) -> Target:
    """The target with smaller cores, so that a small network spreads over several and has routes."""
    return _roomy(target, 2 * sum(size(layer.shape) for layer in graph.layers))


def _roomy(target: Target, total: int) -> Target:
    """The target with the smallest cores that hold ``total`` neurons, `CROWD` on each at least."""
    cores = target.grid.cores_per_chip * target.grid.chips
    return shrunk(target, neurons=min(target.core.neurons, max(CROWD, -(-total // cores))))


def shrunk(target: Target, **limits: int) -> Target:
    """The target with some limits of its cores changed."""
    return replace(target, core=replace(target.core, **limits))


def one_core(target: Target) -> Target:
    """The target with a single core."""
    grid = replace(target.grid, tiles_x=1, tiles_y=1, cores_per_tile=1, chips=1, chips_max=1)
    return replace(target, grid=replace(grid, host_port=(0, 0), unavailable_cores=()))
