"""What the proofs of a compile refuse, each on a program with one thing wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from nmc.backends.loihi.backend import LoihiBackend
from nmc.backends.loihi.emit import ARRAYS, PROGRAM, emit_program
from nmc.backends.loihi.prove_program import prove_program
from nmc.compiler.prove_executed import same_integers
from nmc.compiler.prove_network import StageProofs, decoded_inputs
from nmc.compiler.prove_result import equal_values
from nmc.compiler.prove_stored import accumulator_problems, limit_problems
from nmc.ir.diagnostic import NmcError
from nmc.ir.mapping import Place
from nmc.ir.network import InputSpec, Network
from nmc.ir.reference import encode
from nmc.testing.random_networks import random_network
from tests.programs import ideal_network, tiny_network, tiny_routed

LOIHI = LoihiBackend().targets()["loihi2"]


@dataclass(frozen=True)
class Step:
    """A pass that is done already."""

    stage: str
    name: str = "some-pass"
    bits: int | None = None


def refused(step: Step, before: Any, after: Any) -> str:
    """What the proof of a pass says."""
    proofs = StageProofs(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 4, 4)), LOIHI)
    with pytest.raises(NmcError) as caught:
        proofs.after(step, before, after)  # type: ignore[arg-type]
    assert {d.slug for d in caught.value.diagnostics} == {"stage-differs"}
    return str(caught.value)


def changed(network: Network, name: str, **fields: Any) -> Network:
    """The network with other fields of one projection."""
    return replace(
        network, projections=tuple(replace(p, **fields) if p.name == name else p for p in network.projections)
    )


def test_a_mapping_carries_the_network_that_was_quantized() -> None:
    routed = tiny_routed()
    assert "another network" in refused(Step("place"), routed, replace(routed, network=tiny_network()))


def test_routing_moves_nothing() -> None:
    routed = tiny_routed()
    moved = {**routed.places, 0: Place(0, 1, 0, 1)}
    assert "lie elsewhere" in refused(Step("route"), routed, replace(routed, places=moved))
    assert "other neurons or axons" in refused(Step("route"), routed, replace(routed, clusters=routed.clusters[::-1]))
    assert "rates" in refused(Step("place"), routed, replace(routed, rates={}))


def test_later_passes_keep_who_reads_whom() -> None:
    network = tiny_network()
    assert "leads from" in refused(Step("quantize"), network, changed(network, "a>b#skip", source="b"))
    gone = replace(network, projections=network.projections[:-1])
    assert "is gone" in refused(Step("quantize"), network, gone)
    pool = next(p.connectivity for p in network.projections if p.name == "a>b#pool")
    wider = changed(network, "a>b#pool", connectivity=replace(pool, kernel=(1, 1), pads=(0, 0, 0, 0)))
    assert "other synapses" in refused(Step("quantize"), network, wider)


def problems(network: Network) -> str:
    return "; ".join(text for text, _ in limit_problems(network, LOIHI))


def test_stored_numbers_have_the_width_of_the_target() -> None:
    network = tiny_network()
    dense = next(p.connectivity for p in network.projections if p.name == "b>out")
    assert problems(network) == ""
    assert "-256 to 254" in problems(changed(network, "b>out", connectivity=dense.with_weight(2 * dense.weight + 200)))
    assert "between the steps" in problems(changed(network, "b>out", connectivity=dense.with_weight(dense.weight + 1)))
    assert "the delay 90" in problems(changed(network, "b>out", delay=90))


def test_no_current_wraps() -> None:
    network = tiny_network()
    assert not list(accumulator_problems(network))
    conv = next(p.connectivity for p in network.projections if p.name == "in>a")
    larger = changed(network, "in>a", connectivity=conv.with_weight(100 * conv.weight), shift=np.array(0))
    assert "wraps" in next(text for text, _ in accumulator_problems(larger))


def test_networks_cut_up_otherwise_send_the_same() -> None:
    network = tiny_network()
    x = np.random.default_rng(0).random((2, 1, 4, 4))
    assert not list(same_integers(network, network, x))
    skip = next(p.connectivity for p in network.projections if p.name == "a>b#skip")
    other = changed(network, "a>b#skip", connectivity=skip.with_weight(skip.weight + 2))
    assert any("'b' sends" in text for text, _ in same_integers(network, other, x))


PLAIN = InputSpec("in", (5,), 0.01, -128, 127)
SPLIT = InputSpec("in", (2, 2, 2), 0.01, -128, 127, split_sign=True, perm=(2, 0, 1))


@pytest.mark.parametrize(("spec", "shape"), [(PLAIN, (5,)), (SPLIT, (4, 2, 2))])
def test_decoding_an_input_is_the_inverse_of_encoding(spec: InputSpec, shape: tuple[int, ...]) -> None:
    ideal = ideal_network()
    populations = (replace(ideal.populations[0], shape=shape), *ideal.populations[1:])
    network = replace(ideal, inputs=(spec,), populations=populations)
    x = np.random.default_rng(1).uniform(-1, 1, (3, *spec.shape))
    np.testing.assert_allclose(decoded_inputs(network, encode(network, x)), x, atol=0.005 + 1e-9)


@pytest.mark.parametrize("kind", ["rate", "graded", "burst", "ternary", "sigma-delta", "recurrent"])
def test_a_program_is_its_own_network_and_no_other(kind: str) -> None:
    network = random_network(1, kind=kind)
    payload = emit_program(network)
    prove_program(payload, network, PROGRAM, ARRAYS)
    other = replace(network, timesteps=network.timesteps + 1)
    with pytest.raises(NmcError, match="STEPS"):
        prove_program(payload, other, PROGRAM, ARRAYS)
    first = network.projections[0]
    heavier = first.connectivity.with_weight(first.connectivity.weight + 2)
    with pytest.raises(NmcError, match="another synapse"):
        prove_program(payload, changed(network, first.name, connectivity=heavier), PROGRAM, ARRAYS)


def test_what_no_template_writes_is_refused() -> None:
    network = random_network(1, kind="rate")
    payload = emit_program(network)
    text = payload[PROGRAM].decode().replace("    return net\n", "    net.append(net[0])\n    return net\n", 1)
    with pytest.raises(NmcError, match="not known"):
        prove_program({**payload, PROGRAM: text.encode()}, network, PROGRAM, ARRAYS)


def test_values_are_equal_whatever_their_width() -> None:
    network = tiny_network()
    assert equal_values(network, tiny_network())
    assert equal_values(np.array([1, 2], dtype=np.int8), np.array([1, 2]))
    assert not equal_values(network, replace(network, timesteps=9))
    assert not equal_values({"a": (1,)}, {"a": (1, 2)})
