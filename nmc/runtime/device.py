"""What executes an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from nmc.ir.connectivity import Array, IndexArray

if TYPE_CHECKING:
    from nmc.runtime.artifact import Artifact


@dataclass(frozen=True)
class Counters:
    """Sums over all samples of a run: section 5 of docs/arithmetic.md.

    Attributes:
        spikes: non-zero messages, the host's included (see ``spikes_by_population``).
        synops: synaptic operations on cores; those on the host are ``host_ops``.
        neuron_updates: neurons of the chip times the steps of the samples.
        packets: per message and destination core; messages that stay on the host are none.
        hops: links crossed by packets; ``hops_ew`` along x, ``hops_ns`` along y.
        host_ops: multiply-adds of layers on the host.
        overflows: sums of one projection (before its shift) of magnitude 2^31 and more.
        active_updates: updates of neurons on the chip that changed u or v or fired; for
            stateless neurons, those with a non-zero sum.
        samples: how many.
        spikes_by_core, active_by_core: by cluster id.
        synops_by_core: by id of the core that holds the synapses, the host's under -1.
        packets_by_core: packets sent, the host's under -1; ``packets_received_by_core``: received.
    """

    spikes: int = 0
    synops: int = 0
    neuron_updates: int = 0
    packets: int = 0
    hops: int = 0
    host_ops: int = 0
    overflows: int = 0
    spikes_by_population: Mapping[str, int] = field(default_factory=dict)
    synops_by_core: Mapping[int, int] = field(default_factory=dict)
    packets_by_core: Mapping[int, int] = field(default_factory=dict)
    hops_ew: int = 0
    hops_ns: int = 0
    active_updates: int = 0
    samples: int = 0
    packets_received_by_core: Mapping[int, int] = field(default_factory=dict)
    spikes_by_core: Mapping[int, int] = field(default_factory=dict)
    active_by_core: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trace:
    """What happened inside, by population name; only what was asked for.

    Attributes:
        messages: (N, T, *shape) int64: messages in each step of the population's window.
        potentials: (N, T, *shape) int64: v after each step of the window (after reset).
    """

    messages: Mapping[str, Array] = field(default_factory=dict)
    potentials: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Execution:
    """The result of a run.

    Attributes:
        readouts: of the network's outputs, in order, (N, *population shape) int64: v at the
            window's end, or the message.
        counters: None where the device cannot count.
        curves: of the outputs, in order, (N, T, *population shape) int64: the read-out after every
            step of the population's window, where it was asked for.
        steps: (N,) int64 input steps after which each sample stopped; None: all took all.
    """

    readouts: tuple[Array, ...]
    trace: Trace
    counters: Counters | None = None
    curves: tuple[Array, ...] | None = None
    steps: IndexArray | None = None

    @property
    def readout(self) -> Array:
        """Of the first output."""
        return self.readouts[0]


class Device(Protocol):
    """Executes artifacts."""

    @property
    def name(self) -> str:
        """As ``--on`` names it."""
        ...

    def missing(self) -> str | None:
        """Why the device cannot run here and what to do; None if it can."""
        ...

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        """Run integer inputs through the artifact; without a trace, samples stop as its rule says.

        Args:
            artifact: what to run.
            inputs: (N, *network.input_shape) int64; where there are several inputs, one behind the
                other: ``network.input_places`` says where each of them stands.
            trace: of ``messages``, ``potentials``.

        Raises:
            NmcError: the device is missing (exit 6) or failed.
        """
        ...
