"""Lava against the reference: every message and every potential, on a hundred random networks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from nmc.backends.loihi.emit import emit_program
from nmc.backends.loihi.emit_processes import OWN_PROCESSES, process_name
from nmc.backends.loihi.lava_run import TRACES, Job, run_programs
from nmc.ir import reference
from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip, Sparse
from nmc.ir.network import InputSpec, Network, OutputSpec, Population, Projection
from nmc.ir.neurons import (
    IF,
    LIF,
    NO_MEMORY,
    Burst,
    Graded,
    GradedReLU,
    Integrator,
    Reset,
    SigmaDelta,
    Signed,
    Source,
)
from nmc.ir.origin import Origin
from nmc.ir.reference import ReferenceTrace
from nmc.runtime.device import Execution
from nmc.testing.random_networks import KINDS, random_inputs, random_network

SAMPLES = 2

# The kinds of `random_network`, and how many of each: a hundred in all.
COUNTS = {kind: 12 if kind in ("any", "graded", "recurrent") else 7 for kind in KINDS} | {"rate": 8}
CASES = [(kind, seed) for kind, count in COUNTS.items() for seed in range(1000, 1000 + count)]
BATCH = 10
BATCHES = [CASES[first : first + BATCH] for first in range(0, len(CASES), BATCH)]


@cache
def case(kind: str, seed: int) -> tuple[Network, np.ndarray, tuple[ReferenceTrace, ...]]:
    network = random_network(seed, kind=kind)
    inputs = random_inputs(network, SAMPLES, seed)
    return network, inputs, tuple(reference.run(network, sample) for sample in inputs)


def differences(done: Execution, traces: tuple[ReferenceTrace, ...]) -> list[str]:
    """Where an execution differs from the reference, in words."""
    found = []
    for sample, trace in enumerate(traces):
        if not np.array_equal(done.readout[sample], trace.readout):
            found.append(f"read-out of sample {sample}")
        for what, seen, expected in (
            ("messages", done.trace.messages, trace.messages),
            ("potentials", done.trace.potentials, trace.potentials),
        ):
            if seen.keys() != expected.keys():
                found.append(f"{what} of other populations: {sorted(seen)} not {sorted(expected)}")
                continue
            for name, values in expected.items():
                wrong = np.argwhere(seen[name][sample] != values)
                if len(wrong):
                    found.append(f"{len(wrong)} {what} of {name}, sample {sample}, first at {wrong[0].tolist()}")
    return found


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES, ids=lambda b: f"{b[0][0]}-{b[0][1]}")
def test_every_message_and_potential(batch: list[tuple[str, int]]) -> None:
    jobs = [Job(emit_program(network), network, inputs, TRACES) for network, inputs, _ in (case(*c) for c in batch)]
    wrong = {c: differences(done, case(*c)[2]) for c, done in zip(batch, run_programs(jobs), strict=True)}
    assert {c: found for c, found in wrong.items() if found} == {}


@pytest.mark.lava
def test_without_trace_the_read_out_is_the_same() -> None:
    """Streams without a gap and through other probes than with traces."""
    chosen = [("lif-leak", 1001), ("reset-zero", 1002), ("graded", 1003), ("rate", 1004), ("any", 1005)]
    chosen += [("sigma-delta", seed) for seed in range(1000, 1003)] + [("recurrent", 1001), ("ternary", 1001)]
    jobs = [Job(emit_program(network), network, inputs) for network, inputs, _ in (case(*c) for c in chosen)]
    for c, done in zip(chosen, run_programs(jobs), strict=True):
        assert np.array_equal(done.readout, np.stack([trace.readout for trace in case(*c)[2]])), c


def test_most_networks_are_alive() -> None:
    """In at least 80 of the 100, each population fires between 1 % and 90 % of the time."""
    alive = 0
    for c in CASES:
        network, _, traces = case(*c)
        rates = [
            np.mean([np.count_nonzero(t.messages[p.name]) / t.messages[p.name].size for t in traces])
            for p in network.populations
            if isinstance(p.neuron, LIF | IF | GradedReLU | SigmaDelta) and p.name != network.output.population
        ]
        alive += all(0.01 <= rate <= 0.9 for rate in rates)
    assert alive >= 80


def test_networks_cover_what_is_claimed() -> None:
    """A comparison proves nothing about what no network has."""
    networks = [case(*c)[0] for c in CASES]
    neurons = [p.neuron for n in networks for p in n.populations]
    projections = [p for n in networks for p in n.projections]
    connectivity = [p.connectivity for p in projections]
    lif = [n for n in neurons if isinstance(n, LIF)]
    convolutions = [c for c in connectivity if isinstance(c, Conv2d)]
    fires = [n.fire for n in neurons if isinstance(n, LIF | IF)]
    deltas = [n for n in neurons if isinstance(n, SigmaDelta)]
    sent = [t.messages[p.name] for c in CASES for t in case(*c)[2][:1] for p in case(*c)[0].populations[1:]]
    counts = {
        **Counter(process_name(n, p) for n in networks for p in n.populations),
        "zero reset": sum(n.reset is Reset.ZERO for n in lif),
        "subtractive reset": sum(n.reset is Reset.SUBTRACT for n in lif),
        "ideal IF": sum(isinstance(n, IF) for n in neurons),
        "u leaks": sum(n.du != NO_MEMORY for n in lif),
        "v leaks": sum(n.dv != 0 for n in lif),
        "initial potentials, zero reset": sum(n.reset is Reset.ZERO and bool(np.any(n.v0)) for n in lif),
        "u leaks, initial potentials, zero reset": sum(
            n.reset is Reset.ZERO and n.du != NO_MEMORY and bool(np.any(n.v0)) for n in lif
        ),
        "guarded signs": sum(isinstance(f, Signed) and f.guarded for f in fires),
        "free signs": sum(isinstance(f, Signed) and not f.guarded for f in fires),
        "bursts": sum(isinstance(f, Burst) for f in fires),
        "messages below 0": sum(bool(np.any(messages < 0)) for messages in sent),
        "messages above 1": sum(bool(np.any(messages > 1)) for messages in sent),
        "refractory": sum(n.refractory > 0 for n in lif),
        "rectified deltas": sum(n.rectify for n in deltas),
        "linear deltas": sum(not n.rectify for n in deltas),
        "sources that send once": sum(isinstance(n, Source) and n.once for n in neurons),
        "self loops": sum(p.source == p.target for p in projections),
        "longer loops": sum(len(n.recurrent) - sum(p.source == p.target for p in n.projections) for n in networks),
        "delays": sum(p.delay > 1 for p in projections),
        "shifts by channel": sum(p.shift.ndim == 1 and len(np.unique(p.shift)) > 1 for p in projections),
        "left shifts": sum(bool(np.any(p.shift < 0)) for p in projections),
        "biases in sums": sum(p.bias is not None and bool(np.any(p.shift > 0)) for p in projections),
        "biases beside sums": sum(p.bias is not None and bool(np.any(p.shift <= 0)) for p in projections),
        "dense": sum(isinstance(c, Dense) for c in connectivity),
        "pool": sum(isinstance(c, Pool) for c in connectivity),
        "skip": sum(isinstance(c, Skip) for c in connectivity),
        "sparse": sum(isinstance(c, Sparse) for c in connectivity),
        "stride": sum(c.stride != (1, 1) for c in convolutions),
        "padding": sum(any(c.pads) for c in convolutions),
        "groups": sum(c.groups > 1 for c in convolutions),
        "dilation": sum(c.dilation != (1, 1) for c in convolutions),
        "input by bias": sum(n.input.mode == "bias" for n in networks),
        "input by messages": sum(n.input.mode == "message" for n in networks),
        "one step": sum(n.timesteps == 1 for n in networks),
        "graded over several steps": sum(n.is_graded and n.timesteps > 1 for n in networks),
        "two projections into one population": sum(len(q) > 1 for n in networks for q in n.incoming.values()),
    }
    assert set(OWN_PROCESSES) | {"LIF", "LIFReset", "TernaryLIF", "SigmaDelta", "GradedReluVec"} <= set(counts)
    assert min(counts.values()) >= 3, counts


def _by_hand(kind: str) -> tuple[Network, np.ndarray]:
    """What random networks leave out: odd weights of one sign, biases in the sums of spikes."""
    rng = np.random.default_rng(7)
    origin = Origin("n", "Gemm", "y")
    n, steps = 6, 3
    spec = InputSpec("in", (n,), 1.0, 0, 255, "bias" if kind == "spikes" else "message", bias_exp=4)
    zero = np.zeros((), dtype=np.int64)
    reset = Reset.ZERO if kind == "values" else Reset.SUBTRACT
    first: Source | LIF = Source(8, False)
    if kind == "spikes":
        first = LIF(rng.integers(1, 60, n), zero, np.array(4), rng.integers(0, 900, n), 3000, 100, Reset.ZERO)
    populations = [Population("in", (n,), first, origin)]
    projections = []
    for index, sign in enumerate((1, -1, 1)):
        name = f"layer{index}"
        neuron: LIF | GradedReLU | SigmaDelta = LIF(rng.integers(10, 400, n), zero, zero, zero, 4095, 0, reset)
        if kind == "values":
            neuron = GradedReLU()
        elif kind == "bursts":
            neuron = replace(neuron, fire=Burst(5), reset=Reset.SUBTRACT if index else Reset.ZERO, dv=300 * index)
        elif kind == "resting":
            neuron = replace(neuron, fire=Signed(neuron.threshold // 2), refractory=1 + index)
        elif kind == "changes":
            neuron = SigmaDelta(np.array(1 + 2 * index), np.array(-3), np.array(2 * index))
        weight = sign * rng.integers(0, 256, (n, n)) if index < 2 else 2 * rng.integers(-100, 100, (n, n))
        if kind == "changes":
            weight = weight % 7 if index != 1 else -(weight % 7)
            weight *= 1 + (index == 2)
        before = populations[-1]
        populations.append(Population(name, (n,), neuron, origin, before.start + 1 + index))
        dense = Dense(weight, (n,), (n,))
        shift, bias = rng.integers(-1, 4, n) + (4 if kind == "values" else 0), rng.integers(-900, 900, n)
        if index == 1:
            # Some neurons must overcome the negative weights, others must not.
            strong = {"values": 40_000_000, "changes": 2_000_000}.get(kind, 20_000)
            bias = np.where(rng.random(n) < 0.5, bias, strong)
        projections.append(Projection(name, before.name, name, dense, origin, 1 + index, shift, bias))
    last = populations[-1]
    readout: Integrator | Graded = Integrator(np.array(3), zero, np.array(-7))
    populations.append(Population("out", (n,), Graded() if kind == "values" else readout, origin, last.start + 1))
    skip = Skip(np.array([1, 3, 5, 255, 0, 7]), (n,))
    shift = np.array(12 if kind == "changes" else 0)
    projections.append(Projection("out", last.name, "out", skip, origin, 1, shift, np.array(11)))
    outputs = (OutputSpec("out", np.ones(()), (n,)),)
    scales = {p.name: np.ones(()) for p in populations}
    network = Network(kind, tuple(populations), tuple(projections), (spec,), outputs, steps, scales)
    return network, rng.integers(0, 256, (4, n))


@pytest.mark.lava
@pytest.mark.parametrize("kind", ["spikes", "values", "messages", "bursts", "resting", "changes"])
def test_odd_weights_and_biases_in_sums(kind: str) -> None:
    network, inputs = _by_hand(kind)
    (done,) = run_programs([Job(emit_program(network), network, inputs, TRACES)])
    traces = tuple(reference.run(network, sample) for sample in inputs)
    assert differences(done, traces) == []
    for population in network.populations:
        assert any(trace.messages[population.name].any() for trace in traces) or population.name == "out"
