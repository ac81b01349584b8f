"""A chip as a value. The keys of a target file are the field names below (docs/formats.md).

A limit or cost that is not published is absent (None), never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nmc.ir.neurons import Reset


@dataclass(frozen=True)
class Grid:
    """Cores on the mesh. Chips stand in a row, left to right.

    Attributes:
        tiles_x, tiles_y: tiles of one chip; ``cores_per_tile`` cores each.
        chips: chips used unless the user asks for more; ``chips_max`` at the most.
        host_port: (x, y) of the tile where messages of the host enter.
        unavailable_cores: core numbers (tile-major: (y * tiles_x + x) * cores_per_tile + core)
            that are never used, on every chip.
        crossing_links: links that the way from one chip to the next counts as when clusters are placed.
    """

    tiles_x: int
    tiles_y: int
    cores_per_tile: int = 1
    chips: int = 1
    chips_max: int = 1
    host_port: tuple[int, int] = (0, 0)
    unavailable_cores: tuple[int, ...] = ()
    crossing_links: int = 1

    @property
    def cores_per_chip(self) -> int:
        """Usable cores of one chip."""
        return self.tiles_x * self.tiles_y * self.cores_per_tile - len(set(self.unavailable_cores))


@dataclass(frozen=True)
class CoreLimits:
    """What one core holds. None: not limited, or not published."""

    neurons: int
    in_axons: int | None = None
    out_axons: int | None = None
    synapse_bits: int | None = None
    threshold_profiles: int | None = None


@dataclass(frozen=True)
class NeuronLimits:
    """Neuron models and the widths of their parameters.

    Attributes:
        models: of `nmc.hardware.neuron_models.MODELS`.
        resets: what a spiking neuron may do at a spike; the first is the default.
        microcode: resets and models that need neuron microcode on hardware.
        threshold_max: largest threshold mantissa.
        bias_mantissa_max: largest magnitude of a bias mantissa.
        bias_exponent_max: largest bias exponent.
        refractory_max: longest refractory time in steps; None: not limited.
        sum_bits: of the sum of one graded projection, sign included.
    """

    models: tuple[str, ...]
    resets: tuple[Reset, ...]
    microcode: tuple[str, ...] = ()
    threshold_max: int = 131071
    bias_mantissa_max: int = 4095
    bias_exponent_max: int = 7
    refractory_max: int | None = None
    sum_bits: int = 32


@dataclass(frozen=True)
class MessageLimits:
    """What a spike carries.

    Attributes:
        graded_bits: payload bits of a graded message; 0: binary spikes only.
        input_bits: payload bits of a host message to the input layer; 0: the input is
            an on-chip population driven by its bias.
    """

    graded_bits: int = 0
    input_bits: int = 0


@dataclass(frozen=True)
class WeightLimits:
    """How synapses are stored.

    Attributes:
        bits: of a weight's magnitude and sign together.
        step: stored weights are multiples of it (2 on Loihi where signs are mixed).
        low, high: smallest and largest weight.
        exponent_min, exponent_max: of the power of two applied to a projection's sum
            (the negated shift); None: not limited.
        delay_max: longest synaptic delay in steps.
        shared: a convolution kernel is stored once per core, not once per synapse.
    """

    bits: int
    step: int
    low: int
    high: int
    exponent_min: int | None = None
    exponent_max: int | None = None
    delay_max: int = 62
    shared: bool = False


@dataclass(frozen=True)
class EnergyProfile:
    """Energy (pJ) and time (ns) per event, from one published source. None: not published.

    Attributes:
        synapse_pj, synapse_ns: one synaptic operation.
        neuron_pj, neuron_ns: one neuron visited in one step.
        neuron_active_pj, neuron_active_ns: in addition, where its state changes.
        spike_pj, spike_ns: in addition, where it fires.
        packet_pj, packet_ns: one packet sent by its source core.
        axon_in_ns: one packet received.
        hop_ew_pj, hop_ns_pj, hop_ew_ns, hop_ns_ns: one link crossed, east-west or north-south.
        sync_ns: (tiles used, ns) of one barrier, interpolated.
        static_mw: of one chip.
        source: where the numbers come from, with what the source says of its own accuracy.
    """

    name: str
    source: str
    synapse_pj: float
    neuron_pj: float
    neuron_active_pj: float = 0.0
    spike_pj: float = 0.0
    packet_pj: float = 0.0
    hop_ew_pj: float = 0.0
    hop_ns_pj: float = 0.0
    synapse_ns: float = 0.0
    neuron_ns: float = 0.0
    neuron_active_ns: float = 0.0
    spike_ns: float = 0.0
    packet_ns: float = 0.0
    axon_in_ns: float = 0.0
    hop_ew_ns: float = 0.0
    hop_ns_ns: float = 0.0
    sync_ns: tuple[tuple[int, float], ...] = ()
    static_mw: float | None = None


@dataclass(frozen=True)
class Target:
    """A chip.

    Attributes:
        hash: SHA-256 of the file's content after `extends` is resolved, hex.
        sources: for each key with a number, who says so; ``assumed: ...`` where nobody does.
        host_op_pj: energy of one host operation (a multiply-add of ``--host-input``).
    """

    name: str
    family: str
    description: str
    grid: Grid
    core: CoreLimits
    neurons: NeuronLimits
    messages: MessageLimits
    weights: WeightLimits
    energy: tuple[EnergyProfile, ...]
    sources: Mapping[str, str] = field(default_factory=dict)
    host_op_pj: float | None = None
    hash: str = ""

    @property
    def assumptions(self) -> tuple[str, ...]:
        """The keys whose numbers are assumed, with the words of the file."""
        return tuple(f"{key}: {text}" for key, text in sorted(self.sources.items()) if text.startswith("assumed"))
