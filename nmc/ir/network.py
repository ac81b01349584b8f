"""`Network`: the spiking network. Its meaning is docs/arithmetic.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nmc.ir.connectivity import Array, Connectivity, Shape, size
from nmc.ir.layers import Quantize
from nmc.ir.neurons import Graded, GradedReLU, Neuron
from nmc.ir.origin import Origin
from nmc.ir.samples import joined_shape, places


def _no_shift() -> Array:
    return np.zeros((), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons that share one model.

    Attributes:
        shape: (C, H, W) or (N,).
        start: first step of the window (align pass).
        wait: steps at the start of the window in which it takes sums in but sends nothing.
        on_host: computed by the host, which sends its messages to the chip.
    """

    name: str
    shape: Shape
    neuron: Neuron
    origin: Origin
    start: int = 0
    on_host: bool = False
    wait: int = 0

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return size(self.shape)

    @property
    def sends_from(self) -> int:
        """The first of the T steps in which it may send."""
        return self.start + self.wait


@dataclass(frozen=True, eq=False)
class Projection:
    """All synapses of one kind from one population to another.

    Attributes:
        delay: steps from emission to integration, >= 1.
        shift: right shift of the sum, int64, ``()`` or (output channels,); negative is left.
        bias: added to the sum before the shift, ``()`` or (output channels,) or the full
            output shape; None is zero. Held by constant axons of the target's core.
    """

    name: str
    source: str
    target: str
    connectivity: Connectivity
    origin: Origin
    delay: int = 1
    shift: Array = field(default_factory=_no_shift)
    bias: Array | None = None


@dataclass(frozen=True)
class InputSpec:
    """How a float input becomes integers: section 3 of docs/arithmetic.md.

    Attributes:
        population: the population that takes it.
        shape: of one float sample, in the ONNX file's order, without batch axis.
        mode: ``message`` (a `Source`) or ``bias`` (a spiking population on the chip).
        name: of the input in the ONNX file; may be empty where there is one input only.
    """

    population: str
    shape: Shape
    scale: float
    low: int
    high: int
    mode: str = "message"
    split_sign: bool = False
    bias_exp: int = 0
    perm: tuple[int, ...] | None = None
    name: str = ""


PARTS, SUM = " (parts)", " (sum)"
"""What follows the name of a projection that is made in two steps: to the relays, and from them."""

REST = " (rest)"
"""What follows the name of a projection that stores what the rounded weights of another leave; 0 over reals."""

HEADS = ("", "softmax", "sigmoid", "argmax")
"""What the host can do with the read-out."""


@dataclass(frozen=True, eq=False)
class OutputSpec:
    """How a read-out becomes an output of the network.

    Attributes:
        population: the population that is read; several outputs may read one.
        scale: (channels,) or (): real value per unit of the read-out.
        head: what the host computes afterwards: ``softmax`` (over the last axis), ``sigmoid``,
            ``argmax`` (the number of the largest output) or nothing.
        shape: of one output sample in the ONNX file, without batch axis.
        name: of the output in the ONNX file; may be empty where there is one output only.
    """

    population: str
    scale: Array
    shape: Shape
    head: str = ""
    name: str = ""


@dataclass(frozen=True, eq=False)
class Network:
    """The spiking network.

    Attributes:
        populations: in topological order of their projections, recurrent ones left out.
        inputs: one or more, in the order of the ONNX file, each with a population of its own.
        outputs: one or more, in the order of the ONNX file.
        scales: real value of one unit of each population's message, per channel (decode):
            rate codes stand for ``scale * spikes / timesteps``, graded for ``scale * message``.
        codes: by population, how the file quantizes its values, where the file brings a quantization along.
    """

    name: str
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    timesteps: int
    scales: Mapping[str, Array]
    codes: Mapping[str, Quantize] = field(default_factory=dict)

    @property
    def input(self) -> InputSpec:
        """The first input."""
        return self.inputs[0]

    @cached_property
    def by_input(self) -> Mapping[str, InputSpec]:
        """Inputs by the population that takes them, in order."""
        return {spec.population: spec for spec in self.inputs}

    @cached_property
    def input_shape(self) -> Shape:
        """Shape of one integer sample, the inputs joined (`nmc.ir.samples`)."""
        return joined_shape([self.by_name[name].shape for name in self.by_input])

    @cached_property
    def input_places(self) -> Mapping[str, slice]:
        """Where the integers of each input population stand in a joined sample."""
        return dict(zip(self.by_input, places([self.by_name[name].shape for name in self.by_input]), strict=True))

    @property
    def output(self) -> OutputSpec:
        """The first output."""
        return self.outputs[0]

    @cached_property
    def read_outs(self) -> Mapping[str, OutputSpec]:
        """By population that is read, in order: the first output that reads it."""
        found: dict[str, OutputSpec] = {}
        for spec in self.outputs:
            found.setdefault(spec.population, spec)
        return found

    @cached_property
    def by_name(self) -> Mapping[str, Population]:
        """Populations by name."""
        return {p.name: p for p in self.populations}

    @cached_property
    def incoming(self) -> Mapping[str, tuple[Projection, ...]]:
        """Projections by target, in order."""
        return {p.name: tuple(q for q in self.projections if q.target == p.name) for p in self.populations}

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[Projection, ...]]:
        """Projections by source, in order."""
        return {p.name: tuple(q for q in self.projections if q.source == p.name) for p in self.populations}

    @cached_property
    def recurrent(self) -> frozenset[str]:
        """Projections that lead back: to their own or to an earlier population."""
        order = {p.name: number for number, p in enumerate(self.populations)}
        return frozenset(
            q.name
            for q in self.projections
            if q.source in order and q.target in order and order[q.source] >= order[q.target]
        )

    @property
    def pipeline_steps(self) -> int:
        """Steps between the first input and the first step in which the last population may send."""
        return max(p.sends_from for p in self.populations)

    @property
    def timesteps_total(self) -> int:
        """Steps that one sample takes."""
        return self.timesteps + self.pipeline_steps

    @cached_property
    def is_graded(self) -> bool:
        """Whether messages carry values and one step is one inference."""
        return any(isinstance(p.neuron, GradedReLU | Graded) for p in self.populations)

    @cached_property
    def is_integer(self) -> bool:
        """Whether every weight is an integer (after quantization)."""
        return all(np.issubdtype(p.connectivity.weight.dtype, np.integer) for p in self.projections)
