"""How long an inference takes: an estimate, not a promise.

The model is the simple one of SANA-FE: in every step each core first updates its neurons
and sends their packets (generation), and works off the packets that it received
(processing); the step ends with a barrier over all used tiles. Its authors state an error
of up to 24.3 % for the constants of ``sanafe_nahuku``. The work of a core is taken as
equal in all steps, and time on the mesh and on the host is left out.
"""

from __future__ import annotations

from itertools import pairwise

from nmc.hardware.events import CoreEvents, EventCounts
from nmc.hardware.target import EnergyProfile


def barrier_ns(profile: EnergyProfile, tiles: int) -> float:
    """Time of one barrier over ``tiles`` used tiles (ns).

    Linear between the published points, constant beyond them; 0 where none is published.
    """
    points = profile.sync_ns
    if not points:
        return 0.0
    if tiles <= points[0][0]:
        return points[0][1]
    for (low, low_ns), (high, high_ns) in pairwise(points):
        if tiles <= high:
            return low_ns + (high_ns - low_ns) * (tiles - low) / (high - low)
    return points[-1][1]


def generation_ns(profile: EnergyProfile, core: CoreEvents, timesteps_total: float) -> float:
    """Time that a core needs in one inference to update neurons and send packets (ns)."""
    return (
        core.neurons * timesteps_total * profile.neuron_ns
        + core.active_updates * profile.neuron_active_ns
        + core.spikes * profile.spike_ns
        + core.packets_out * profile.packet_ns
    )


def processing_ns(profile: EnergyProfile, core: CoreEvents) -> float:
    """Time that a core needs in one inference to receive packets and do their synapses (ns)."""
    return core.packets_in * profile.axon_in_ns + core.synops * profile.synapse_ns


def estimate_latency(profile: EnergyProfile, events: EventCounts) -> float:
    """Time of one inference on the chip (us).

    ``max over cores of max(generation, processing) + timesteps_total * barrier``: the
    generation of a step overlaps with the processing of what arrives in it.
    """
    busiest = max(
        (
            max(generation_ns(profile, core, events.timesteps_total), processing_ns(profile, core))
            for core in events.cores
        ),
        default=0.0,
    )
    return (busiest + events.timesteps_total * barrier_ns(profile, events.tiles)) / 1000.0
