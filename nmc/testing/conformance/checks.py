"""What is checked of one compiled network. A check raises `AssertionError` with the numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

import numpy as np

from nmc.hardware.neuron_models import features
from nmc.hardware.target import Target
from nmc.ir import reference
from nmc.ir.connectivity import Array
from nmc.ir.network import Network
from nmc.ir.neurons import LIF, Integrator, Source
from nmc.kernels.graph import execute_graph
from nmc.passes.check.check_mapping import mapping_diagnostics
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Device
from nmc.runtime.report import render_report
from nmc.runtime.simulator import simulate
from nmc.testing.conformance.bench import Bench, Case
from nmc.testing.conformance.digest import payload_digest
from nmc.testing.conformance.networks import networks

EXACT_SAMPLES = 3
"""Samples of the comparisons bit by bit."""

CORRELATION = 0.8
"""Of the mapped network's output with the float network's: far below what any of our chips gives."""

KINDS = frozenset({"messages", "potentials"})


def require(holds: bool, text: str) -> None:
    """Fail with a text."""
    if not holds:
        raise AssertionError(text)


def stored_numbers(bench: Bench, case: Case, artifact: Artifact) -> None:
    """Weights, exponents, delays, thresholds and biases are numbers that the target can store."""
    target, network = bench.target(case.target), artifact.network
    weights = target.weights
    for projection in network.projections:
        values, name = projection.connectivity.weight, projection.name
        require(not np.any(values % weights.step), f"{name}: weights off the step of {weights.step}")
        require(
            weights.low <= values.min() and values.max() <= weights.high,
            f"{name}: weights {values.min()}..{values.max()}, the target stores {weights.low}..{weights.high}",
        )
        low, high = -int(projection.shift.max()), -int(projection.shift.min())
        within = (weights.exponent_min is None or weights.exponent_min <= low) and (
            weights.exponent_max is None or high <= weights.exponent_max
        )
        require(within, f"{name}: exponents {low}..{high}, target {weights.exponent_min}..{weights.exponent_max}")
        require(projection.delay <= weights.delay_max, f"{name}: delay {projection.delay} > {weights.delay_max}")
    for population in network.populations:
        lacking = {*features(population.neuron)} - {*target.neurons.models, *map(str, target.neurons.resets)}
        require(not lacking or population.on_host, f"{population.name} needs {sorted(lacking)}")
    _stored_parameters(target, network)


def _stored_parameters(target: Target, network: Network) -> None:
    limits = target.neurons
    for population in network.populations:
        neuron, name = population.neuron, population.name
        if isinstance(neuron, LIF):
            require(neuron.reset in limits.resets, f"{name}: reset {neuron.reset}, target {limits.resets}")
            top = int(neuron.threshold.max())
            require(top <= limits.threshold_max, f"{name}: threshold {top} > {limits.threshold_max}")
        if isinstance(neuron, LIF | Integrator):
            mantissa, exponent = int(np.abs(neuron.bias_mant).max()), int(neuron.bias_exp.max())
            require(mantissa <= limits.bias_mantissa_max, f"{name}: bias {mantissa} > {limits.bias_mantissa_max}")
            require(exponent <= limits.bias_exponent_max, f"{name}: exponent {exponent} > {limits.bias_exponent_max}")
    for spec in network.inputs:
        if spec.mode == "message":
            bits = target.messages.input_bits
            require(max(spec.high, -spec.low - 1) < 2**bits, f"input {spec.low}..{spec.high} is wider than {bits} bits")
        else:
            top = max(spec.high, -spec.low)
            require(top <= limits.bias_mantissa_max, f"input bias {top} > {limits.bias_mantissa_max}")


def checker(bench: Bench, case: Case, artifact: Artifact) -> None:
    """The independent checker finds nothing in the mapping."""
    findings = mapping_diagnostics(artifact.routed, bench.target(case.target))
    require(not findings, "; ".join(finding.message for finding in findings))


def simulator(bench: Bench, case: Case, artifact: Artifact) -> None:
    """The simulator on the mapping equals the reference on the network, bit by bit."""
    network = artifact.network
    inputs = reference.encode(network, bench.inputs(case)[:EXACT_SAMPLES])
    ours = simulate(artifact.routed, inputs, trace=KINDS)
    for number, sample in enumerate(inputs):
        wanted = reference.run(network, sample)
        for own_last, last in zip(ours.readouts, wanted.readouts, strict=True):
            require(np.array_equal(own_last[number], last), f"sample {number}: read-outs differ")
        for kind, theirs, own in (
            ("messages", wanted.messages, ours.trace.messages),
            ("potentials", wanted.potentials, ours.trace.potentials),
        ):
            for name, values in theirs.items():
                require(np.array_equal(own[name][number], values), f"sample {number}: {kind} of {name} differ")


def follows_the_network(bench: Bench, case: Case, artifact: Artifact) -> None:
    """The outputs of the mapped network correlate with the float network's."""
    graph, x = networks()[case.network], bench.inputs(case)
    analog = execute_graph(graph, x, graph.outputs)
    execution = simulate(artifact.routed, reference.encode(artifact.network, x))
    for number, (name, readout) in enumerate(zip(graph.outputs, execution.readouts, strict=True)):
        found, wanted = reference.decode(artifact.network, readout, number).reshape(-1), analog[name].reshape(-1)
        require(bool(found.std() > 0), f"the output '{name}' never changes")
        correlation = float(np.corrcoef(found, wanted)[0, 1])
        require(
            correlation >= CORRELATION,
            f"'{name}' has the correlation {correlation:.3f} with the float network, below {CORRELATION}",
        )


def same_program(bench: Bench, case: Case, artifact: Artifact) -> None:
    """Compiled again, the emitted program has the same bytes, relative paths, and no absolute path inside."""
    again = bench.compile(case).payload
    require(payload_digest(again) == payload_digest(artifact.payload), "compiled twice, the program differs")
    require(len(artifact.payload) > 0, "nothing was emitted")
    places = {str(Path.cwd()), str(Path.home()), tempfile.gettempdir(), str(Path(__file__).parents[3])}
    for member, content in artifact.payload.items():
        path = PurePosixPath(member)
        require(not path.is_absolute() and ".." not in path.parts, f"'{member}' is no plain relative path")
        found = [place for place in places if len(place) > 1 and place.encode() in content]
        require(not found, f"'{member}' holds the absolute path {found}")


def round_trip(bench: Bench, case: Case, artifact: Artifact) -> None:
    """Saved and loaded, the artifact computes the same and is written with the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder) / "a.nmc", Path(folder) / "b.nmc"
        artifact.save(path)
        loaded = Artifact.load(path)
        loaded.save(again)
        require(path.read_bytes() == again.read_bytes(), "loaded and saved again, the bytes differ")
    require(loaded.payload == artifact.payload, "the program was changed on the way")
    inputs = reference.encode(loaded.network, bench.inputs(case)[:EXACT_SAMPLES])
    before, after = simulate(artifact.routed, inputs), simulate(loaded.routed, inputs)
    for one, other in zip(before.readouts, after.readouts, strict=True):
        require(np.array_equal(one, other), "loaded, it computes something else")
    require(before.counters == after.counters, "loaded, it counts something else")


def report(bench: Bench, case: Case, artifact: Artifact) -> None:
    """The report renders, names every layer, and loads nothing."""
    page = render_report(artifact)
    require("<svg" in page and case.target in page, "the report lacks its pictures or its target")
    lacking = [p.name for p in artifact.network.populations if p.name not in page]
    require(not lacking, f"the report does not name {lacking}")
    require('src="http' not in page and "<link" not in page, "the report loads something")


def device(bench: Bench, case: Case, artifact: Artifact, executor: Device) -> None:
    """A device of the backend equals the simulator: read-outs, and all messages and potentials that it traces."""
    network = artifact.network
    inputs = reference.encode(network, bench.inputs(case)[:EXACT_SAMPLES])
    ours = simulate(artifact.routed, inputs, trace=KINDS)
    theirs = executor.execute(artifact, inputs, trace=KINDS)
    for kind, wanted, found in (
        ("message", ours.trace.messages, theirs.trace.messages),
        ("potential", ours.trace.potentials, theirs.trace.potentials),
    ):
        for population in network.populations:
            name = population.name
            # What a source sends is the input itself; some chips trace it, some do not.
            if name in found and name in wanted and not isinstance(population.neuron, Source):
                _same(f"{kind} of '{name}'", wanted[name], found[name])
    require(len(ours.readouts) == len(theirs.readouts), f"{len(theirs.readouts)} of {len(ours.readouts)} read-outs")
    for wanted_last, found_last in zip(ours.readouts, theirs.readouts, strict=True):
        _same("read-out", wanted_last, found_last)


def _same(what: str, wanted: Array, found: Array) -> None:
    require(found.shape == wanted.shape, f"{what} has the shape {found.shape}, not {wanted.shape}")
    different = np.argwhere(found != wanted)
    if len(different):
        at = tuple(int(i) for i in different[0])
        raise AssertionError(
            f"{what} differs in {len(different)} of {wanted.size} values, first at (sample, step, neuron) = {at}: "
            f"{found[at]} instead of {wanted[at]}"
        )


CHECKS = (stored_numbers, checker, simulator, follows_the_network, same_program, round_trip, report)
"""Of every case that compiles; `device` is run for each device besides."""
