"""Where an error comes from: the parts add up, and each planted cause shows in its own column."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nmc.ir.network import Network
from nmc.ir.neurons import LIF
from nmc.ir.reference import encode
from nmc.passes.partition.split_fan_in import SplitFanIn
from nmc.runtime.artifact import Artifact
from nmc.runtime.attribution import PARTS, Attribution, attribute, attribution_table, worst
from nmc.runtime.oracle import OnnxOracle
from nmc.runtime.verification import _wanted, decoded_values, far_from_float, verify
from nmc.testing.builders import context_for, residual_graph, small_target
from tests.runtime.artifacts import residual_artifact, samples

X = samples(24, seed=6)
LAYERS = ["input", "stem_relu", "first_relu", "sum_relu", "logits"]


def split(artifact: Artifact) -> dict[str, Attribution]:
    return {row.name: row for row in verify(artifact, X).attribution}


@pytest.mark.parametrize("coding,timesteps", [("rate", 32), ("rate", 6), ("graded", 1)])
def test_the_parts_add_up_to_the_error_of_the_mapped_program(coding: str, timesteps: int) -> None:
    artifact = residual_artifact(coding, timesteps)
    result = verify(artifact, X)
    assert [row.name for row in result.attribution] == LAYERS
    found = decoded_values(artifact, encode(artifact.network, X))
    for row, layer in zip(result.attribution, result.layers, strict=True):
        assert sum(row.parts.values()) == pytest.approx(row.error, abs=1e-12)
        power = layer.rmse**2 / row.error
        spread = np.var(found[row.name])
        assert 0.3 * spread < power < 3 * spread
        assert 0 <= row.dead <= 1 and 0 <= row.saturated <= 1 and row.rate >= 0
        assert list(row.parts) == list(PARTS)


def test_levels_are_what_few_steps_cost() -> None:
    few, many = split(residual_artifact("rate", 4)), split(residual_artifact("rate", 64))
    for name in LAYERS[1:4]:
        assert few[name].parts["levels"] > 10 * many[name].parts["levels"] > 0
        assert few[name].main_part == "levels"
    most = worst(list(few.values()))
    assert most is not None and most.name == "first_relu"
    graded = split(residual_artifact("graded", 1))
    assert all(abs(graded[name].parts["timing"]) < 1e-9 for name in LAYERS)


def damaged(change: Callable[[Network], Network]) -> dict[str, Attribution]:
    artifact = residual_artifact("rate", 32)
    network = change(artifact.network)
    wanted = {r.name: r for r in verify(artifact, X).attribution}
    rows = verify(replace(artifact, routed=replace(artifact.routed, network=network)), X).attribution
    assert [r.name for r in rows] == list(wanted)
    return {r.name: r for r in rows}


def test_coarse_weights_show_as_weights() -> None:
    def coarse(network: Network) -> Network:
        def rounded(weight: np.ndarray) -> np.ndarray:
            step = max(int(np.abs(weight).max()) // 2, 1)
            return np.rint(weight / step).astype(weight.dtype) * step

        return replace(
            network,
            projections=tuple(
                replace(p, connectivity=p.connectivity.with_weight(rounded(p.connectivity.weight)))
                if p.target == "first_relu"
                else p
                for p in network.projections
            ),
        )

    row = damaged(coarse)["first_relu"]
    assert row.main_part == "weights" and row.parts["weights"] > 0.5 * row.error


def with_neuron(name: str, change: Callable[[LIF], LIF], network: Network) -> Network:
    return replace(
        network,
        populations=tuple(
            replace(p, neuron=change(p.neuron)) if p.name == name and isinstance(p.neuron, LIF) else p
            for p in network.populations
        ),
    )


def test_a_low_threshold_shows_as_clipping_and_saturates() -> None:
    def low(network: Network) -> Network:
        changed = with_neuron("stem_relu", lambda n: replace(n, threshold=np.maximum(n.threshold // 4, 1)), network)
        return replace(changed, scales={**changed.scales, "stem_relu": changed.scales["stem_relu"] / 4})

    row = damaged(low)["stem_relu"]
    assert row.main_part == "clipping" and row.saturated > 0.1
    assert split(residual_artifact("rate", 32))["stem_relu"].saturated < 0.05


def test_a_threshold_out_of_reach_is_dead() -> None:
    row = damaged(lambda n: with_neuron("first_relu", lambda m: replace(m, threshold=m.threshold * 200), n))
    assert row["first_relu"].dead > 0.5 and row["first_relu"].rate < 0.01


def test_timing_is_what_uneven_inputs_add() -> None:
    """Nothing where the input is constant or nothing fires; something behind layers that spike."""
    artifact = residual_artifact("rate", 8)
    rows = split(artifact)
    ideal = [rows[name].ideal for name in LAYERS]
    assert rows["logits"].parts["timing"] == pytest.approx(0, abs=1e-9)
    assert all(value >= 0 for value in ideal)
    # The first layer reads a constant input: nothing comes unevenly, ideal levels are what it has.
    assert rows["stem_relu"].parts["timing"] == pytest.approx(0, abs=1e-12)
    assert rows["stem_relu"].ideal == pytest.approx(rows["stem_relu"].error)
    assert any(abs(rows[name].parts["timing"]) > 0 for name in ("first_relu", "sum_relu"))


def test_a_risky_output_is_a_warning_that_names_layer_and_remedy() -> None:
    artifact = residual_artifact("rate", 2)
    result = verify(artifact, X)
    (warning,) = [d for d in result.diagnostics if d.slug == "outputs-far-from-float"]
    most = worst(result.attribution)
    assert most is not None and f"'{most.name}' adds most" in warning.message and warning.severity == "warning"
    assert warning.help and "-T" in warning.help
    assert not list(far_from_float(artifact.network, verify(residual_artifact("rate", 64), X).attribution))


def test_table_and_json() -> None:
    result = verify(residual_artifact(), X)
    table = attribution_table(result.attribution)
    assert len(table.rows) == len(LAYERS) and all(len(row) == len(table.columns) for row in table.rows)
    assert "ideal levels" in str(result)
    rows = json.loads(json.dumps(result.to_dict()["attribution"], allow_nan=False))
    assert list(rows[0]) == ["name", "rate", "dead", "saturated", "error", "parts", "ideal"]


def test_only_populations_with_known_values_have_a_row() -> None:
    artifact = residual_artifact()
    network, inputs = artifact.network, encode(artifact.network, X[:1])
    rows = attribute(
        network, artifact.spiking, inputs, {"first_relu": np.zeros((1, *network.by_name["first_relu"].shape))}
    )
    assert [row.name for row in rows] == ["first_relu"] and rows[0].dead == 0


@pytest.mark.parametrize("coding,timesteps", [("rate", 16), ("graded", 1)])
def test_layers_that_are_cut_up_keep_their_split(coding: str, timesteps: int) -> None:
    """Their weights over reals are no longer known: what inputs and weights bring stands together."""
    artifact = residual_artifact(coding, timesteps)
    network, inputs = artifact.network, encode(artifact.network, X)
    target = replace(small_target(), core=replace(small_target().core, in_axons=24))
    made = SplitFanIn().run(network, context_for(residual_graph(0), X, target))
    assert len(made.populations) > len(network.populations)
    wanted = {
        name: np.asarray(values) for name, values in _wanted(network, OnnxOracle(artifact.source_onnx), X).items()
    }
    whole = {row.name: row for row in attribute(network, artifact.spiking, inputs, wanted)}
    for row in attribute(made, artifact.spiking, inputs, wanted):
        same = whole[row.name]
        assert row.error == pytest.approx(same.error) and row.ideal == pytest.approx(same.ideal)
        assert row.parts["timing"] == pytest.approx(same.parts["timing"], abs=1e-9)
        brought, before = (r.parts["inputs"] + r.parts["weights"] for r in (row, same))
        assert brought == pytest.approx(before, abs=0.02)
