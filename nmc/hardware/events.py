"""What happened on a chip during one inference: the input of the energy and timing models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoreEvents:
    """Events of one core in one inference.

    Attributes:
        neurons: neurons that live on the core; each is visited once per step.
        active_updates: visits of neurons whose state changed.
        spikes: messages that its neurons emitted.
        packets_out: packets that it sent: one per message and destination core.
        packets_in: packets that it received, each one access to an input axon.
        synops: synaptic operations.
    """

    neurons: int
    active_updates: float = 0.0
    spikes: float = 0.0
    packets_out: float = 0.0
    packets_in: float = 0.0
    synops: float = 0.0


@dataclass(frozen=True)
class EventCounts:
    """Events of the whole chip in one inference (docs/arithmetic.md section 5).

    Counts are means over samples, so they need not be whole numbers.

    Attributes:
        neurons: neurons mapped to cores; the host's are not counted.
        timesteps_total: steps that one inference takes, pipeline steps included.
        synops: synaptic operations on cores.
        packets: packets of cores and of the host, the own core's included.
        hops_ew, hops_ns: links crossed by packets, east-west and north-south.
        spikes: messages emitted by neurons on cores.
        active_updates: neuron updates in which the state changed; the others are visits only.
        host_ops: multiply-adds on the host.
        tiles: tiles with at least one used core.
        chips: chips with at least one used core.
        cores: the same, core by core: what the timing model needs.
    """

    neurons: int
    timesteps_total: float
    synops: float
    packets: float
    hops_ew: float = 0.0
    hops_ns: float = 0.0
    spikes: float = 0.0
    active_updates: float = 0.0
    host_ops: float = 0.0
    tiles: int = 1
    chips: int = 1
    cores: tuple[CoreEvents, ...] = ()

    @property
    def neuron_updates(self) -> float:
        """Visits of neurons: every mapped neuron in every step."""
        return self.neurons * self.timesteps_total
