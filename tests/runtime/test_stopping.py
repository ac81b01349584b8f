"""Samples that stop early: the fit, the steps, what is run and counted, against slow and obvious code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nmc.ir import reference
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network, OutputSpec
from nmc.kernels.mapped_tables import build_tables
from nmc.runtime import simulator
from nmc.runtime.data import Data
from nmc.runtime.evaluation import evaluate
from nmc.runtime.session import run
from nmc.runtime.simulator import Simulator, simulate, simulate_stopping, stopped
from nmc.runtime.stopping import (
    MarginRule,
    first_look,
    fit_margin,
    margins,
    refuse_coding,
    refuse_outputs,
    rule_of,
    stop_steps,
)
from nmc.testing.random_networks import random_inputs, random_network
from nmc.testing.waiting import with_waits
from tests.property.random_mapping import random_mapping
from tests.runtime.artifacts import residual_artifact, samples

NETWORK = residual_artifact().network
STEPS, CLASSES = NETWORK.timesteps, 5


def walks(count: int, seed: int) -> Any:
    """(count, T, classes) read-outs that grow at a rate of their own, with noise in every step."""
    rng = np.random.default_rng(seed)
    drift, noise = rng.normal(0, 400, (count, 1, CLASSES)), rng.normal(0, 1500, (count, STEPS, CLASSES))
    return np.rint(np.cumsum(drift + noise, axis=1)).astype(np.int64)


def slow_stop(network: Network, rule: MarginRule, curve: Any) -> tuple[int, int]:
    """Steps and answer of one sample, in the words of the manual."""
    scale = np.broadcast_to(network.output.scale, curve.shape[1])
    for step, readout in enumerate(curve, 1):
        values = [float(v) * float(s) for v, s in zip(readout, scale, strict=True)]
        second, best = sorted(values)[-2:]
        margin = (best - second) * (network.timesteps / step)
        if step == network.timesteps or margin >= rule.thresholds[step - 1]:
            return step, values.index(best)
    raise ValueError("no steps")


def test_samples_stop_where_a_slow_loop_stops() -> None:
    rule, curve = fit_margin(NETWORK, walks(300, 0), 2.0), walks(200, 1)
    margin, answer = margins(NETWORK, curve)
    steps = stop_steps(rule.thresholds, margin)
    want = [slow_stop(NETWORK, rule, sample) for sample in curve]
    assert steps.tolist() == [step for step, _ in want]
    assert answer[np.arange(200), steps - 1].tolist() == [found for _, found in want]
    assert len(set(steps.tolist())) > 8 and steps.max() == STEPS
    # Of a part of the steps: those that stop later are not done.
    early = stop_steps(rule.thresholds, margin[:, :6])
    assert early.tolist() == np.where(steps <= 6, steps, STEPS).tolist()


@pytest.mark.parametrize("allowed", [0.3, 2.0, 10.0])
def test_the_fit_takes_the_fewest_steps_that_change_no_more(allowed: float) -> None:
    curve = walks(400, 2)
    rule = fit_margin(NETWORK, curve, allowed)
    may = max(int((401) * allowed / 100 + 1e-9) - 1, 0)
    assert rule.changed <= may and rule.samples == 400 and sum(rule.stopped) == 400
    # A little less of the scale, and one sample more changes than may.
    margin, answer = margins(NETWORK, curve)
    lower = tuple(0.9999 * value for value in rule.thresholds)
    steps = stop_steps(lower, margin)
    assert (answer[np.arange(400), steps - 1] != answer[:, -1]).sum() > rule.changed
    # The scale is one number, and every larger one is as good.
    assert np.allclose(
        np.array(rule.thresholds) / np.sqrt(STEPS / np.arange(1, STEPS) - 1), rule.thresholds[STEPS // 2 - 1]
    )
    for larger in np.geomspace(1, 8, 60):
        steps = stop_steps(tuple(larger * value for value in rule.thresholds), margin)
        assert (answer[np.arange(400), steps - 1] != answer[:, -1]).sum() <= may


def test_new_samples_change_as_often_as_was_said() -> None:
    """The chance of (k + 1) in (n + 1) holds on average over fits: 5 in 251, with a standard error of 0.0006."""
    shares, steps = [], []
    for seed in range(80):
        rule = fit_margin(NETWORK, walks(250, 100 + seed), 2.0)
        margin, answer = margins(NETWORK, walks(1000, 500 + seed))
        ends = stop_steps(rule.thresholds, margin)
        shares.append(float((answer[np.arange(1000), ends - 1] != answer[:, -1]).mean()))
        steps.append(rule.mean_steps)
        assert rule.assured <= 2.0
    assert 0.017 < np.mean(shares) < 0.022 and np.mean(steps) < 0.9 * STEPS
    assert fit_margin(NETWORK, walks(20, 1), 0.1).assured == pytest.approx(100 / 21)


def test_few_samples_are_extrapolated() -> None:
    """Of 60 samples none tells of 0.5 %; counted alone they let 1.6 % change."""
    shares = []
    for seed in range(60):
        rule = fit_margin(NETWORK, walks(60, 2000 + seed), 0.5)
        margin, answer = margins(NETWORK, walks(1000, 3000 + seed))
        ends = stop_steps(rule.thresholds, margin)
        shares.append(float((answer[np.arange(1000), ends - 1] != answer[:, -1]).mean()))
        assert rule.changed == 0 and rule.assured > 0.5
    assert 0.001 < np.mean(shares) < 0.009
    steps = [fit_margin(NETWORK, walks(60, 1), allowed).mean_steps for allowed in (0.0, 0.01, 0.1, 1.0)]
    assert steps == sorted(steps, reverse=True)


def test_more_changes_take_fewer_steps() -> None:
    means = [fit_margin(NETWORK, walks(400, 3), allowed).mean_steps for allowed in (0.0, 1.0, 5.0, 50.0)]
    assert means == sorted(means, reverse=True) and means[-1] < means[0]


def test_one_step_and_one_sample_are_no_special_case() -> None:
    assert fit_margin(NETWORK, walks(1, 4), 1.0).samples == 1
    one = replace(NETWORK, timesteps=1)
    rule = fit_margin(one, walks(5, 4)[:, :1], 1.0)
    assert rule.thresholds == () and rule.stopped == (5,) and first_look(rule) == 1
    assert stop_steps((), margins(one, walks(5, 4)[:, :1])[0]).tolist() == [1] * 5


def random_case(kind: str, seed: int) -> tuple[Network, Any, MarginRule]:
    """A random network, inputs, and a rule by which some stop early."""
    network = random_network(seed, kind=kind)
    if kind == "rate" and seed % 2:
        network = with_waits(network, seed)
    spec = network.outputs[0]
    network = replace(network, outputs=(OutputSpec(spec.population, spec.scale, spec.shape),))
    inputs = random_inputs(network, 20, seed)
    curve = np.stack([reference.run(network, x).potentials[spec.population] for x in inputs])
    return network, inputs, fit_margin(network, curve.reshape(20, network.timesteps, -1), 30.0)


CASES = [("rate", seed) for seed in range(8)] + [("burst", 1), ("ternary", 2), ("recurrent", 3), ("lif-leak", 4)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_simulator_stops_as_the_reference_would(case: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs, rule = random_case(*case)
    routed, name = random_mapping(network, 1), network.output.population
    done = simulate_stopping(routed, inputs, rule)
    whole = simulate(routed, inputs).counters
    assert done.steps is not None and done.counters is not None and whole is not None
    totals, spikes = 0, 0
    for sample, x in enumerate(inputs):
        trace = reference.run(network, x)
        curve = trace.potentials[name].reshape(network.timesteps, -1)
        step, _ = slow_stop(network, rule, curve)
        total = network.by_name[name].sends_from + step
        assert done.steps[sample] == step
        assert np.array_equal(done.readout[sample].reshape(-1), curve[step - 1])
        totals += total
        for population in network.populations:
            sent = trace.messages.get(population.name, np.zeros(0))
            spikes += int(np.count_nonzero(sent[: max(total - population.sends_from, 0)]))
    assert done.counters.spikes == spikes
    share = totals / (len(inputs) * network.timesteps_total)
    assert done.counters.neuron_updates == pytest.approx(whole.neuron_updates * share)
    assert done.counters.synops <= whole.synops and done.counters.packets <= whole.packets
    # In two parts or in one, it is the same.
    monkeypatch.setattr(simulator, "FEW", 1)
    steps, readouts = stopped(build_tables(routed), inputs, rule)
    assert np.array_equal(steps, done.steps) and np.array_equal(readouts, done.readout)
    # Where many run, nothing is counted.
    monkeypatch.setattr(simulator, "COUNTED", len(inputs) - 1)
    assert simulate_stopping(routed, inputs, rule).counters is None


def test_most_of_the_random_cases_stop_early_and_in_two_parts() -> None:
    rules = [random_case(*case)[2] for case in CASES]
    assert sum(rule.stopped[-1] < rule.samples for rule in rules) >= 8
    assert sum(first_look(rule) < len(rule.stopped) for rule in rules) >= 4


def stopping_artifact() -> Any:
    artifact = residual_artifact()
    inputs = reference.encode(artifact.network, samples(64, seed=1))
    curves = simulate(artifact.routed, inputs, curve=True).curves
    assert curves is not None
    rule = fit_margin(artifact.network, curves[0], 5.0)
    return replace(artifact, manifest={**artifact.manifest, "stop": rule.to_dict()}), rule


def test_the_rule_of_an_artifact_is_what_its_manifest_says() -> None:
    artifact, rule = stopping_artifact()
    assert rule_of(artifact.manifest, artifact.network) == rule
    assert rule_of(residual_artifact().manifest, artifact.network) is None
    good = rule.to_dict()
    wrong: list[dict[str, object]] = [
        {"rule": "entropy"},
        {"thresholds": good["thresholds"][:-1]},  # type: ignore[index]
        {"thresholds": [float("nan")] * (STEPS - 1)},
        {"thresholds": [-1.0] * (STEPS - 1)},
        {"thresholds": "x"},
        {"samples": 0},
        {"stopped": [1]},
        {"changed": None},
    ]
    for change in wrong:
        with pytest.raises(NmcError) as caught:
            rule_of({"stop": good | change}, artifact.network)
        assert caught.value.diagnostics[0].slug == "artifact-corrupt"
    with pytest.raises(NmcError):
        rule_of({"stop": 3}, artifact.network)


def test_a_run_stops_and_a_trace_does_not() -> None:
    artifact, _ = stopping_artifact()
    x = samples(30, seed=6)
    done, plain = run(artifact, x, Simulator()), run(residual_artifact(), x, Simulator())
    steps = done.execution.steps
    assert steps is not None and done.mean_steps == steps.mean() < STEPS and "stopped after" in str(done.tables()[0])
    assert plain.mean_steps is None and done.to_dict()["mean_steps"] == done.mean_steps
    ends = steps == STEPS
    assert np.array_equal(done.outputs[ends], plain.outputs[ends])
    # Rates are rates, after however many steps.
    curve = simulate(artifact.routed, reference.encode(artifact.network, x), curve=True).curves
    assert curve is not None
    rates = curve[0][np.arange(30), steps - 1] * artifact.network.output.scale * (STEPS / steps)[:, None]
    assert np.allclose(done.outputs, rates)
    traced = run(artifact, x, Simulator(), trace=frozenset({"messages"}))
    assert traced.mean_steps is None and np.array_equal(traced.outputs, plain.outputs)


@pytest.mark.parametrize("workers", [1, 2])
def test_evaluation_says_what_stopping_costs(workers: int) -> None:
    artifact, _ = stopping_artifact()
    x = samples(60, seed=8)
    plain = run(residual_artifact(), x, Simulator())
    done = run(artifact, x, Simulator())
    assert plain.answers is not None and done.answers is not None and done.execution.steps is not None
    data = Data(x, (plain.answers + (np.arange(60) % 3 == 0)) % 5, "npz", "")
    result = evaluate(artifact, data, workers=workers)
    stopping = result.stopping
    assert stopping is not None
    assert stopping.mean_steps == done.execution.steps.mean()
    assert stopping.changed == pytest.approx((done.answers != plain.answers).mean())
    assert stopping.top1 == (done.answers == data.y).mean()
    start = artifact.network.by_name["logits"].start
    assert stopping.mean_steps_total == stopping.mean_steps + start and start > 0
    assert result.to_dict()["stopping"] == stopping.to_dict() and "once its answer is clear" in str(result)
    without = evaluate(residual_artifact(), data)
    assert without.stopping is None and without.stages == result.stages
    assert evaluate(artifact, data, stages=["quantized"]).stopping is None


def test_what_cannot_stop_is_refused_by_name() -> None:
    for coding in ("graded", "sigma-delta"):
        with pytest.raises(NmcError, match=coding) as caught:
            refuse_coding(coding)
        assert caught.value.exit_code == ExitCode.USAGE
    refuse_coding("burst")
    refuse_outputs(NETWORK)
    twice = replace(NETWORK, outputs=NETWORK.outputs * 2)
    values = replace(NETWORK, outputs=(replace(NETWORK.output, shape=(1, 5)),))
    single = replace(NETWORK, outputs=(replace(NETWORK.output, shape=(5, 1, 1), head="sigmoid"),))
    refuse_outputs(values)
    refuse_outputs(single)
    with pytest.raises(NmcError, match="2 outputs"):
        refuse_outputs(twice)
    square = replace(NETWORK, outputs=(replace(NETWORK.output, shape=(72,)),))
    with pytest.raises(NmcError, match="no class"):
        refuse_outputs(square)
