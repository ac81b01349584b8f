"""A right compile lies inside the bounds and equals itself; every fault is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nmc.ir.connectivity import Array, Conv2d, Dense, Pool, Skip, sparse_from_synapses
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network, Projection
from nmc.ir.neurons import LIF
from nmc.ir.reference import encode, run
from nmc.runtime import verification as module
from nmc.runtime.artifact import Artifact
from nmc.runtime.device import Execution, Trace
from nmc.runtime.error_model import error_bounds, squared_gain
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.simulator import Simulator, simulate
from nmc.runtime.verification import compare_with_device, decoded_values, verify
from tests.runtime.artifacts import residual_artifact, samples

X = samples(8, seed=6)


@pytest.mark.parametrize(
    "coding,timesteps,seed", [("rate", 32, 0), ("rate", 8, 1), ("rate", 128, 2), ("graded", 1, 0), ("graded", 1, 3)]
)
def test_right_compiles_are_inside_their_bounds(coding: str, timesteps: int, seed: int) -> None:
    result = verify(residual_artifact(coding, timesteps, seed), X)
    assert [r.name for r in result.layers] == ["input", "stem_relu", "first_relu", "sum_relu", "logits"]
    assert result.first_bad_layer is None and result.ok
    assert not [d for d in result.diagnostics if d.severity != "warning"]
    for layer in result.layers:
        assert 0.02 * layer.bound < layer.rmse < 0.6 * layer.bound, layer
        assert layer.correlation is not None and layer.correlation > 0.9
        assert layer.max_error >= layer.rmse


def test_more_steps_give_tighter_bounds() -> None:
    bounds = [verify(residual_artifact("rate", t), X).layers[2].bound for t in (8, 32, 128)]
    assert bounds[0] > 2 * bounds[1] > 4 * bounds[2]


@pytest.mark.parametrize("scale", [2.0, -1.0, 0.5])
def test_inputs_beyond_the_calibrated_range_count_as_clipping(scale: float) -> None:
    assert verify(residual_artifact(), scale * X).ok


def test_values_are_decoded_from_messages() -> None:
    artifact = residual_artifact()
    network, inputs = artifact.network, encode(artifact.network, X[:2])
    values = decoded_values(artifact, inputs)
    traces = [run(network, sample) for sample in inputs]
    counts = np.stack([t.messages["first_relu"].sum(axis=0) for t in traces])
    want = counts / 32 * network.scales["first_relu"].reshape(-1, 1, 1)
    assert np.allclose(values["first_relu"], want)
    assert np.allclose(values["logits"], np.stack([t.readout for t in traces]) * network.output.scale)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    want = verify(residual_artifact(), X).layers
    monkeypatch.setattr(module, "VALUES_MAX", 1)
    assert verify(residual_artifact(), X).layers == want


def test_json_contract() -> None:
    document = json.loads(json.dumps(verify(residual_artifact(), X, device=Simulator()).to_dict(), allow_nan=False))
    assert list(document) == ["layers", "first_bad_layer", "attribution", "curve", "bit_exact"]
    assert list(document["layers"][0]) == ["name", "max_error", "rmse", "correlation", "bound", "ok"]
    assert document["bit_exact"] == {
        "device": "sim",
        "spikes_equal": True,
        "potentials_equal": True,
        "steps": 8 * residual_artifact().network.timesteps_total,
    }
    assert verify(residual_artifact(), X).to_dict()["bit_exact"] is None


# --- faults of the compiler


def damaged(change: Callable[[Network], Network], coding: str = "rate") -> Artifact:
    artifact = residual_artifact(coding)
    return replace(artifact, routed=replace(artifact.routed, network=change(artifact.network)))


def with_projection(name: str, change: Callable[[Projection], Projection]) -> Callable[[Network], Network]:
    def apply(network: Network) -> Network:
        return replace(network, projections=tuple(change(p) if p.name == name else p for p in network.projections))

    return apply


def reweighted(change: Callable[[Array], Array]) -> Callable[[Projection], Projection]:
    return lambda p: replace(p, connectivity=p.connectivity.with_weight(change(p.connectivity.weight)))


def with_neuron(name: str, **changes: Callable[[LIF], Any]) -> Callable[[Network], Network]:
    def change(neuron: Any) -> Any:
        return replace(neuron, **{key: make(neuron) for key, make in changes.items()})

    def apply(network: Network) -> Network:
        return replace(
            network,
            populations=tuple(
                replace(p, neuron=change(p.neuron)) if p.name == name else p for p in network.populations
            ),
        )

    return apply


def with_scale(name: str, factor: float) -> Callable[[Network], Network]:
    return lambda network: replace(network, scales={**network.scales, name: network.scales[name] * factor})


STEM, SKIP = "input>stem_relu", "stem_relu>sum_relu#1"


@pytest.mark.parametrize(
    "change,first",
    [
        (with_projection(STEM, reweighted(lambda w: -w)), "stem_relu"),
        (with_projection(STEM, reweighted(lambda w: w[::-1].copy())), "stem_relu"),
        (with_projection(STEM, reweighted(lambda w: w[:, :, ::-1, ::-1].copy())), "stem_relu"),
        (with_projection(STEM, reweighted(lambda w: w.transpose(0, 1, 3, 2).copy())), "stem_relu"),
        (with_projection(STEM, reweighted(lambda w: w // 2)), "stem_relu"),
        (with_projection(STEM, lambda p: replace(p, shift=p.shift - 1)), "stem_relu"),
        (with_projection(SKIP, reweighted(lambda w: 0 * w)), "sum_relu"),
        (with_projection(SKIP, reweighted(lambda w: -w)), "sum_relu"),
        (with_projection("sum_relu>logits", reweighted(lambda w: w[[1, 0, 2, 3, 4]])), "logits"),
        (with_neuron("first_relu", threshold=lambda n: n.threshold * 2), "first_relu"),
        (with_neuron("first_relu", bias_mant=lambda n: -n.bias_mant), "first_relu"),
        (with_neuron("stem_relu", dv=lambda n: 1000), "stem_relu"),
    ],
)
def test_faults_are_found_in_the_layer_where_they_are(change: Any, first: str) -> None:
    result = verify(damaged(change), X)
    assert result.first_bad_layer == first and not result.ok
    finding = result.diagnostics[0]
    assert finding.slug == "layer-out-of-bound" and finding.severity == "error" and first in finding.message
    assert finding.origin is not None and finding.origin.output.startswith(first)


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("coding", ["rate", "graded"])
def test_wrong_scales_are_found(coding: str, factor: float) -> None:
    assert verify(damaged(with_scale("first_relu", factor), coding), X).first_bad_layer == "first_relu"


def test_populations_without_a_tensor_are_noted() -> None:
    def hide(network: Network) -> Network:
        origin = replace(network.by_name["first_relu"].origin, output="gone")
        return replace(
            network,
            populations=tuple(replace(p, origin=origin) if p.name == "first_relu" else p for p in network.populations),
        )

    result = verify(damaged(hide), X)
    assert "first_relu" not in [r.name for r in result.layers] and result.ok
    assert [d.slug for d in result.diagnostics] == ["layer-not-compared"]


@pytest.mark.parametrize("shape", [(3, 4, 5), (60,), (12, 5)])
def test_tensors_take_the_population_s_order(shape: tuple[int, ...]) -> None:
    values = np.arange(120.0).reshape(2, 3, 4, 5)
    assert np.array_equal(module._shaped(values, shape), values.reshape(2, *shape))  # type: ignore[arg-type]


def test_channels_last_are_turned() -> None:
    values = np.arange(120.0).reshape(2, 4, 5, 3)
    turned = module._shaped(values, (3, 4, 5))
    assert turned is not None and np.array_equal(turned, np.moveaxis(values, -1, 1))
    assert module._shaped(values, (3, 4, 6)) is None


# --- the error model


@pytest.mark.parametrize(
    "operator",
    [
        Dense(np.random.default_rng(0).normal(size=(6, 12)), (3, 2, 2), (3, 2)),
        Conv2d(np.random.default_rng(1).normal(size=(4, 1, 2, 2)), (2, 4, 4), groups=2),
        Pool(np.array([0.5, -2.0]), (2, 4, 4), (2, 2), (2, 2)),
        Skip(np.array([0.5, -2.0]), (2, 3, 3)),
        sparse_from_synapses(np.arange(8) % 4, np.arange(8), np.arange(1.0, 9.0), (2, 4), (2, 2)),
    ],
)
def test_squared_gain_is_the_sum_over_synapses(operator: Any) -> None:
    source = np.array([2.0, 3.0, 5.0])[: operator.in_shape[0]]
    target, index, weight = operator.synapses()
    per_source = int(np.prod(operator.in_shape)) // operator.in_shape[0]
    sums = np.zeros(int(np.prod(operator.out_shape)))
    np.add.at(sums, target, weight**2 * source[index // per_source])
    want = sums.reshape(operator.out_shape[0], -1).mean(axis=1)
    assert np.allclose(squared_gain(operator, np.square(operator.weight), source), want)


def test_bounds_do_not_follow_wrong_weights() -> None:
    """A fault must not widen its own bound: rounding explains half a step, not more."""
    artifact = residual_artifact()
    oracle = OnnxOracle(artifact.source_onnx)
    wanted = {
        p.name: oracle.tensors(X, [p.origin.output])[p.origin.output].astype(np.float64)
        for p in artifact.network.populations
    }
    bad = with_projection(STEM, reweighted(lambda w: -w))(artifact.network)
    right = error_bounds(artifact.network, artifact.spiking, wanted)
    wrong = error_bounds(bad, artifact.spiking, wanted)
    assert wrong["stem_relu"] < 2 * right["stem_relu"]


# --- another device


class Other:
    """A device that runs the simulator and changes its answer."""

    name = "other"

    def __init__(self, change: Callable[[Execution], Execution], reason: str | None = None) -> None:
        self._change, self._reason = change, reason

    def missing(self) -> str | None:
        return self._reason

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        return self._change(simulate(artifact.routed, inputs, trace=trace))


def flipped(kind: str, population: str, *at: int) -> Callable[[Execution], Execution]:
    def change(run: Execution) -> Execution:
        values = dict(getattr(run.trace, kind))
        values[population] = values[population].copy()
        values[population][at] += 1
        return replace(run, trace=replace(run.trace, **{kind: values}))

    return change


def test_a_flipped_spike_is_named() -> None:
    artifact = residual_artifact()
    device = Other(flipped("messages", "first_relu", 3, 7, 1, 2, 4))
    result = verify(artifact, X, device=device)
    exact = result.bit_exact
    assert exact is not None and not exact.spikes_equal and exact.potentials_equal and not result.ok
    start = artifact.network.by_name["first_relu"].start
    assert exact.first is not None
    assert (exact.first.sample, exact.first.population, exact.first.step) == (3, "first_relu", start + 7)
    assert exact.first.neuron == 1 * 36 + 2 * 6 + 4 and exact.first.found == exact.first.expected + 1
    text = result.diagnostics[-1].message
    assert "sample 3" in text and "'first_relu'" in text and f"step {start + 7}" in text and "neuron 52" in text


def test_the_earliest_difference_is_named() -> None:
    artifact = residual_artifact()
    late, early = flipped("potentials", "logits", 0, 20, 1), flipped("potentials", "stem_relu", 0, 9, 0, 0, 0)
    exact = compare_with_device(artifact, encode(artifact.network, X), Other(lambda run: early(late(run))))
    assert exact.spikes_equal and not exact.potentials_equal
    assert exact.first is not None and exact.first.population == "stem_relu"


def test_a_different_readout_alone_is_named() -> None:
    def change(run: Execution) -> Execution:
        readout = run.readout.copy()
        readout[1, 2] -= 64
        return replace(run, readouts=(readout,))

    artifact = residual_artifact()
    exact = compare_with_device(artifact, encode(artifact.network, X), Other(change))
    assert not exact.spikes_equal and exact.first is not None
    assert (exact.first.sample, exact.first.neuron, exact.first.kind) == (1, 2, "readout")


def test_what_is_not_traced_does_not_count_as_equal() -> None:
    result = verify(residual_artifact(), X, device=Other(lambda run: replace(run, trace=Trace())))
    exact = result.bit_exact
    assert exact is not None and not exact.spikes_equal and not exact.potentials_equal
    assert "stem_relu" in exact.missing and "input" not in exact.missing
    assert "no trace" in result.diagnostics[0].message


def test_missing_devices_end_with_exit_6() -> None:
    with pytest.raises(NmcError) as caught:
        verify(residual_artifact(), X, device=Other(lambda run: run, "not here"))
    assert caught.value.exit_code is ExitCode.MISSING
