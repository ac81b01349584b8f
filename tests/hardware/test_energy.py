"""Energy and timing: golden arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nmc.hardware.energy import EnergySplit, estimate_all, estimate_energy
from nmc.hardware.events import CoreEvents, EventCounts
from nmc.hardware.target import EnergyProfile
from nmc.hardware.timing import barrier_ns, estimate_latency, generation_ns, processing_ns
from tests.passes.targets import chip, loihi

PROFILE = EnergyProfile(
    "golden",
    "made up",
    synapse_pj=20.0,
    neuron_pj=50.0,
    neuron_active_pj=30.0,
    spike_pj=70.0,
    packet_pj=100.0,
    hop_ew_pj=3.0,
    hop_ns_pj=4.0,
    synapse_ns=4.0,
    neuron_ns=5.0,
    neuron_active_ns=3.0,
    spike_ns=30.0,
    packet_ns=6.0,
    axon_in_ns=16.0,
    sync_ns=((1, 100.0), (5, 500.0)),
    static_mw=10.0,
)

EVENTS = EventCounts(
    neurons=200,
    timesteps_total=10,
    synops=5000,
    packets=300,
    hops_ew=40,
    hops_ns=50,
    spikes=120,
    active_updates=400,
    host_ops=1000,
    tiles=3,
    chips=2,
    cores=(
        CoreEvents(neurons=150, active_updates=300, spikes=100, packets_out=200, packets_in=50, synops=1000),
        CoreEvents(neurons=50, active_updates=100, spikes=20, packets_out=20, packets_in=250, synops=4000),
    ),
)


def test_split():
    split = estimate_energy(PROFILE, replace(chip(), host_op_pj=5.0), EVENTS)
    assert split.synapse == pytest.approx(100.0)
    assert split.neuron == pytest.approx((2000 * 50 + 400 * 30 + 120 * 70) / 1000)
    assert split.noc == pytest.approx((300 * 100 + 40 * 3 + 50 * 4) / 1000)
    assert split.host == pytest.approx(5.0)
    assert split.total == pytest.approx(100 + 120.4 + 30.32 + 5)
    assert split.static == pytest.approx(10 * 2 * estimate_latency(PROFILE, EVENTS))


def test_times():
    busy, listening = EVENTS.cores
    assert generation_ns(PROFILE, busy, 10) == 150 * 10 * 5 + 300 * 3 + 100 * 30 + 200 * 6
    assert processing_ns(PROFILE, listening) == 250 * 16 + 4000 * 4
    # The listening core sets the pace; ten barriers over three tiles at 300 ns.
    assert estimate_latency(PROFILE, EVENTS) == pytest.approx((20000 + 10 * 300) / 1000)
    quiet = replace(EVENTS, cores=(busy,))
    assert estimate_latency(PROFILE, quiet) == pytest.approx((12600 + 3000) / 1000)
    assert estimate_latency(PROFILE, replace(EVENTS, cores=())) == pytest.approx(3.0)


@pytest.mark.parametrize(("tiles", "ns"), [(0, 100), (1, 100), (2, 200), (5, 500), (50, 500)])
def test_barrier(tiles, ns):
    assert barrier_ns(PROFILE, tiles) == ns


def test_unpublished_costs_stay_absent():
    profile = replace(PROFILE, static_mw=None, sync_ns=())
    assert barrier_ns(profile, 4) == 0
    split = estimate_energy(profile, chip(), EVENTS)
    assert split.static is None and split.host is None
    assert split.total == pytest.approx(split.synapse + split.neuron + split.noc)
    assert estimate_energy(profile, chip(), replace(EVENTS, host_ops=0)).host == 0


def test_static_power_is_never_in_the_total():
    more = estimate_energy(replace(PROFILE, static_mw=1e6), chip(), EVENTS)
    assert more.total == estimate_energy(PROFILE, chip(), EVENTS).total
    assert more.static is not None and more.static > 1e6


def test_interval_over_both_published_profiles():
    target = loihi("loihi1")
    estimate = estimate_all(target, EVENTS)
    davies, nahuku = estimate.profiles["davies2018"], estimate.profiles["sanafe_nahuku"]
    assert (estimate.low, estimate.high) == (davies.total, nahuku.total)
    assert davies.synapse == pytest.approx(5000 * 23.6e-3)
    assert nahuku.noc == pytest.approx(300 * 0.111 + 40 * 0.003 + 50 * 0.0042)
    assert davies.host == nahuku.host == pytest.approx(100.0)
    assert list(estimate.to_dict()) == ["davies2018", "sanafe_nahuku", "low", "high"]
    first = estimate.to_dict()["davies2018"]
    assert first == {
        "total": davies.total,
        "static": None,
        "synapse": davies.synapse,
        "neuron": davies.neuron,
        "noc": davies.noc,
        "host": davies.host,
    }


def test_no_profiles():
    estimate = estimate_all(chip(), EVENTS)
    assert (dict(estimate.profiles), estimate.low, estimate.high) == ({}, None, None)


def test_an_idle_step_of_a_full_loihi_chip():
    # 131072 neurons at 52 pJ: 6.8 uJ (derived from the same table in the literature).
    events = EventCounts(neurons=131072, timesteps_total=1, synops=0, packets=0)
    split = estimate_energy(loihi("loihi1").energy[0], loihi("loihi1"), events)
    assert split == EnergySplit(split.neuron, None, 0.0, split.neuron, 0.0, 0.0)
    assert split.neuron == pytest.approx(6815.744)
