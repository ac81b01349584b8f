"""Energy of an inference, by published profile.

Every profile comes from one source and is used alone: numbers of two sources are never
mixed in one sum. Over all profiles of a target the totals span an interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nmc.hardware.events import EventCounts
from nmc.hardware.target import EnergyProfile, Target
from nmc.hardware.timing import estimate_latency


@dataclass(frozen=True)
class EnergySplit:
    """Energy of one inference, nJ.

    Attributes:
        total: dynamic energy, ``synapse + neuron + noc`` and the host's where it is known.
        static: static power of the chips times the estimated latency, beside the total and
            never in it: the supply voltages of the two measurements are not the same. None
            where no static power is published.
        synapse: synaptic operations.
        neuron: neuron updates, and the spikes that they end with.
        noc: packets (one per message and destination core, the own core's included) and
            the links that they cross.
        host: operations on the host; None where the target has no figure and there were some.
    """

    total: float
    static: float | None
    synapse: float
    neuron: float
    noc: float
    host: float | None


@dataclass(frozen=True)
class EnergyEstimate:
    """The splits of all profiles, by name, and the interval of their totals, nJ.

    ``low`` and ``high`` are None for a target without profiles.
    """

    profiles: Mapping[str, EnergySplit]
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, object]:
        """The form of the ``--json`` contract: one entry per profile, ``low`` and ``high``."""
        splits: dict[str, object] = {
            name: {
                "total": s.total,
                "static": s.static,
                "synapse": s.synapse,
                "neuron": s.neuron,
                "noc": s.noc,
                "host": s.host,
            }
            for name, s in self.profiles.items()
        }
        return {**splits, "low": self.low, "high": self.high}


def estimate_energy(profile: EnergyProfile, target: Target, events: EventCounts) -> EnergySplit:
    """Energy of one inference by one profile.

    ```
    synapse = synops * synapse_pj
    neuron  = neurons * timesteps_total * neuron_pj + active_updates * neuron_active_pj
              + spikes * spike_pj
    noc     = packets * packet_pj + hops_ew * hop_ew_pj + hops_ns * hop_ns_pj
    host    = host_ops * host.op_pj
    static  = static_mw * chips * latency
    ```

    Args:
        profile: the costs per event.
        target: the chip, for the host's cost.
        events: of one inference.

    Returns:
        the split, nJ.
    """
    synapse = events.synops * profile.synapse_pj / 1000.0
    neuron = (
        events.neuron_updates * profile.neuron_pj
        + events.active_updates * profile.neuron_active_pj
        + events.spikes * profile.spike_pj
    ) / 1000.0
    noc = (
        events.packets * profile.packet_pj + events.hops_ew * profile.hop_ew_pj + events.hops_ns * profile.hop_ns_pj
    ) / 1000.0
    host: float | None = 0.0
    if events.host_ops:
        host = None if target.host_op_pj is None else events.host_ops * target.host_op_pj / 1000.0
    static = None
    if profile.static_mw is not None:
        # mW * us = nJ
        static = profile.static_mw * events.chips * estimate_latency(profile, events)
    return EnergySplit(synapse + neuron + noc + (host or 0.0), static, synapse, neuron, noc, host)


def estimate_all(target: Target, events: EventCounts) -> EnergyEstimate:
    """Energy of one inference by every profile of the target, and the interval they span."""
    splits = {profile.name: estimate_energy(profile, target, events) for profile in target.energy}
    totals = [split.total for split in splits.values()]
    return EnergyEstimate(splits, min(totals, default=None), max(totals, default=None))
