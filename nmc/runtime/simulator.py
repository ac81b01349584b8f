"""The simulator: a device that runs any artifact from its mapping and counts what happens there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nmc.ir.connectivity import Array, IndexArray
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import HOST, Routed
from nmc.ir.neurons import has_potential
from nmc.kernels.mapped import execute_mapped, execute_steps
from nmc.kernels.mapped_counts import mesh_counts
from nmc.kernels.mapped_run import MappedRun, Progress
from nmc.kernels.mapped_tables import MappedProgram, build_tables
from nmc.runtime.device import Counters, Execution, Trace
from nmc.runtime.stopping import MarginRule, first_look, margins, rule_of, stop_steps, stopped_readouts

if TYPE_CHECKING:
    from nmc.runtime.artifact import Artifact

COUNTED = 64
"""Samples that stop early whose events are counted."""

FEW = 512
"""Samples below which laying a network out for fewer steps takes longer than it saves: 0.3 to 0.8 s, against 0.7 to
1 ms for each sample of a network of digits or of CIFAR's ResNet-20."""


class Simulator:
    """Runs the mapping of an artifact, bit-exact with `nmc.ir.reference`.

    Args:
        progress: called with a text and the fraction done.
    """

    name = "sim"

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress

    def missing(self) -> str | None:
        """Nothing: it is part of the package."""
        return None

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        """Run integer inputs (N, *input shape) through the artifact's mapping; without a trace they stop by its rule.

        Raises:
            NmcError: the inputs do not fit the network, or the mapping is broken.
        """
        rule = rule_of(artifact.manifest, artifact.network)
        if rule is None or trace:
            return simulate(artifact.routed, inputs, trace=trace, progress=self._progress)
        return simulate_stopping(artifact.routed, inputs, rule, progress=self._progress)


def simulate(
    routed: Routed,
    inputs: Array,
    *,
    trace: frozenset[str] = frozenset(),
    threads: int | None = None,
    progress: Progress | None = None,
    curve: bool = False,
) -> Execution:
    """Execute a mapping: routes, axon tables and core-local synapses, nothing else.

    Args:
        routed: the mapping; its network is quantized and aligned.
        inputs: (N, *network.input_shape) int64, as `nmc.ir.reference.encode` makes them.
        trace: of ``messages``, ``potentials``.
        threads: at most this many; None: one per processor. Results do not depend on it.
        progress: called with a text and the fraction done, after every sample.
        curve: also return the read-outs after every step of the outputs' windows.

    Raises:
        NmcError: the inputs do not fit the network, or the mapping names what does not exist.
    """
    return execute(build_tables(routed), inputs, trace=trace, threads=threads, progress=progress, curve=curve)


def simulate_stopping(
    routed: Routed,
    inputs: Array,
    rule: MarginRule,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Execution:
    """`simulate`, every sample ended by a rule.

    When a sample ends is seen where layers run over many steps at once. What it did until then and nothing later
    is counted step by step, which takes up to fifty times as long: of `COUNTED` samples at most, else of none.
    """
    program, network = build_tables(routed), routed.network
    steps, readouts = stopped(program, inputs, rule, threads, progress)
    counters = None
    if len(inputs) <= COUNTED:
        totals = steps + network.by_name[network.output.population].sends_from
        run = execute_steps(program, inputs.astype(np.int64), threads=threads, totals=totals)
        counters = _counters(program, run, len(inputs), int(totals.sum()))
    return Execution((readouts,), Trace(), counters, steps=steps)


def stopped(
    program: MappedProgram,
    inputs: Array,
    rule: MarginRule,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[IndexArray, Array]:
    """(N,) the input steps after which samples stop, and (N, *population shape) their read-outs then.

    Many samples are run for as many steps as most of them take, and those that are left for all T: what comes
    first does not depend on how long a run is. A layer that waits hears its sources ahead of time, so that
    much more has to be run.
    """
    network, count = program.network, len(inputs)
    looked = first_look(rule)
    longer = looked + sum(population.wait for population in network.populations)
    steps = np.full(count, network.timesteps)
    readouts = np.zeros((count, *network.by_name[network.output.population].shape), dtype=np.int64)

    def run(some: MappedProgram, which: IndexArray, until: int) -> None:
        curves = execute(some, inputs[which], threads=threads, progress=progress, curve=True).curves or ()
        curve = curves[0][:, :until]
        steps[which] = stop_steps(rule.thresholds, margins(network, curve)[0])
        readouts[which] = stopped_readouts(curve, np.minimum(steps[which], until))

    left: IndexArray = np.arange(count)
    if longer < network.timesteps and count >= FEW:
        run(build_tables(replace(program.routed, network=replace(network, timesteps=longer))), left, looked)
        left = np.flatnonzero(steps > looked)
    if len(left) or not count:
        run(program, left, network.timesteps)
    return steps, readouts


def execute(
    program: MappedProgram,
    inputs: Array,
    *,
    trace: frozenset[str] = frozenset(),
    threads: int | None = None,
    progress: Progress | None = None,
    curve: bool = False,
) -> Execution:
    """`simulate` for tables that were built before."""
    network = program.network
    shape = network.input_shape
    if inputs.shape[1:] != shape or not np.issubdtype(inputs.dtype, np.integer):
        raise NmcError.single(
            "data-shape",
            f"inputs are {inputs.dtype} of shape {inputs.shape[1:]} per sample, "
            f"the input {', '.join(map(repr, network.by_input))} takes integers of shape {shape}",
            ExitCode.USAGE,
            help="encode float samples first (nmc.ir.reference.encode)",
        )
    run = execute_mapped(
        program,
        inputs.astype(np.int64),
        keep_messages="messages" in trace,
        keep_potentials="potentials" in trace,
        threads=threads,
        progress=progress,
    )
    read = {name: _curve(program, name, values) for name, values in run.readouts.items()}
    curves = tuple(read[spec.population] for spec in network.outputs)
    readouts = tuple(values[:, -1] for values in curves)
    counters = _counters(program, run, len(inputs), network.timesteps_total * len(inputs))
    return Execution(readouts, _trace(program, run), counters, curves if curve else None)


def _curve(program: MappedProgram, name: str, values: Array) -> Array:
    """Read-outs (N, T, *population shape); neurons that no core holds read 0."""
    return _spread(values, program.neurons[program.slots_by_population[name]], program.network.by_name[name].shape)


def _trace(program: MappedProgram, run: MappedRun) -> Trace:
    messages: dict[str, Array] = {}
    potentials: dict[str, Array] = {}
    kept = run.messages is not None or run.potentials is not None
    for population in program.network.populations if kept else ():
        slots = program.slots_by_population[population.name]
        neurons = program.neurons[slots]
        if run.messages is not None:
            messages[population.name] = _spread(run.messages[:, :, slots], neurons, population.shape)
        if run.potentials is not None and has_potential(population.neuron):
            potentials[population.name] = _spread(run.potentials[:, :, slots], neurons, population.shape)
    return Trace(messages, potentials)


def _spread(values: Array, neurons: IndexArray, shape: tuple[int, ...]) -> Array:
    spread = np.zeros((*values.shape[:2], int(np.prod(shape))), dtype=np.int64)
    spread[:, :, neurons] = values
    return spread.reshape(*values.shape[:2], *shape)


def _counters(program: MappedProgram, run: MappedRun, samples: int, steps: int) -> Counters:
    """Everything that is linear in the messages of a slot is counted from those; ``steps``: of all samples."""
    ids, mesh = program.clusters, mesh_counts(program, run.fired, run.changed)
    on_chip = np.array([i != HOST for i in ids], dtype=np.bool_)
    counted = on_chip[program.tables.slices[:, 4]]
    spikes = {population.name: 0 for population in program.network.populations}
    for population, many in zip(program.populations, mesh.by_slice.tolist(), strict=True):
        spikes[population.name] += many

    def by_id(values: IndexArray) -> dict[int, int]:
        return dict(zip(ids, values.tolist(), strict=True))

    return Counters(
        spikes=sum(spikes.values()),
        synops=int(run.synops[on_chip].sum()),
        neuron_updates=int(program.tables.slices[counted, 1].sum()) * steps,
        packets=int(mesh.sent.sum()),
        hops=mesh.hops_ew + mesh.hops_ns,
        host_ops=int(run.synops[~on_chip].sum()),
        overflows=run.overflows,
        spikes_by_population=spikes,
        synops_by_core=by_id(run.synops),
        packets_by_core=by_id(mesh.sent),
        hops_ew=mesh.hops_ew,
        hops_ns=mesh.hops_ns,
        active_updates=int(mesh.active[on_chip].sum()),
        samples=samples,
        packets_received_by_core=by_id(mesh.received),
        spikes_by_core=by_id(mesh.spikes),
        active_by_core=by_id(mesh.active),
    )
