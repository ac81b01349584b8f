"""Networks that cannot fit are refused before they are mapped."""

from __future__ import annotations

import re

import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.passes.partition import RequireRoom
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import least_cores
from nmc.passes.partition.require_room import estimated_cores
from tests.passes.networks import SMALL, conv_net
from tests.passes.targets import chip, context, mapped, tight


@pytest.fixture
def nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmc.passes.partition.require_room.LARGE", 0)


@pytest.mark.usefixtures("nothing_is_small")
def test_too_few_cores_are_said_before_anything_is_mapped():
    network, target = conv_net(), chip(tiles_x=1, tiles_y=1, cores_per_tile=1, chips_max=512)
    least, limit = least_cores(DemandModel.of(network, target, {}))
    assert least > 1
    with pytest.raises(NmcError) as caught:
        RequireRoom().run(network, context(target))
    error, note = caught.value.diagnostics
    assert (error.slug, note.slug, caught.value.exit_code) == ("too-many-cores", "layers-placed", ExitCode.DOES_NOT_FIT)
    assert (
        f"needs at least {least} cores, because of {limit}, and {least - 1} more than the 1 of 1 chip" in error.message
    )
    assert error.origin is not None
    chips = int(re.search(r"\(1\) --chips (\d+)", error.help or "")[1])
    # What is asked for is enough.
    assert RequireRoom(chips).run(network, context(target)) is network
    assert mapped(network, target, chips=chips).cores_used <= chips


@pytest.mark.usefixtures("nothing_is_small")
def test_a_neuron_that_exceeds_a_core_is_named():
    with pytest.raises(NmcError) as caught:
        RequireRoom().run(conv_net(), context(tight(in_axons=3)))
    *errors, note = caught.value.diagnostics
    assert {d.slug for d in errors} == {"core-in-axons"}
    assert note.message == "nothing was mapped; the other 0 of 3 layers fit one by one"
    assert caught.value.exit_code is ExitCode.DOES_NOT_FIT


def test_small_networks_are_mapped_to_know_their_cores():
    network = conv_net()
    assert RequireRoom().run(network, context(chip(tiles_x=1, tiles_y=1, cores_per_tile=1))) is network


def test_equal_tiles_take_no_less_than_the_bound():
    for neurons, axons in ((16, 100), (64, 40), (64, 1000)):
        model = DemandModel.of(conv_net(), tight(neurons=neurons, in_axons=axons), {})
        assert estimated_cores(model) >= least_cores(model)[0]


@pytest.mark.parametrize("name", ["conv", "residual", "grouped"])
def test_the_cores_that_are_asked_for_are_near_those_of_the_mapping(name):
    network, target = SMALL[name](), chip(tiles_x=16, tiles_y=16)
    used = mapped(network, target).cores_used
    assert used <= estimated_cores(DemandModel.of(network, target, {})) <= max(1.6 * used, used + 1)
