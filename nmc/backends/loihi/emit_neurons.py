"""Source lines of populations; `emit_processes` says which process each becomes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nmc.backends.loihi.emit_processes import process_name
from nmc.backends.loihi.emit_synapses import array_text, constant_messages, int_tuple
from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population
from nmc.ir.neurons import (
    IF,
    LIF,
    NO_MEMORY,
    STATE_LIMIT,
    Burst,
    Fire,
    Graded,
    GradedReLU,
    Integrator,
    Reset,
    SigmaDelta,
    Signed,
    Source,
    spike_levels,
)

READOUT_THRESHOLD = (1 << 17) - 1
"""Largest threshold mantissa of Loihi's register (17 bit): a read-out below it never fires."""

CONSTANT_BIAS = 4095
"""Of constant LIF neurons, whose threshold is 1: they fire in every step, whatever reset and leak do."""

LINE = 110
"""Longest line of emitted source, without its indentation."""


@dataclass(frozen=True, eq=False)
class PopulationWriter:
    """Writes the lines of one population.

    Attributes:
        network: what is emitted.
        population: of the network.
        constants: constant neurons behind its own.
        arrays: where parameters go that are no scalars.
    """

    network: Network
    population: Population
    constants: int
    arrays: dict[str, Array]

    @cached_property
    def number(self) -> int:
        """Of the population, in order."""
        return self.network.populations.index(self.population)

    @property
    def driven(self) -> bool:
        """Whether the population takes the sample as its bias."""
        spec = self.network.by_input.get(self.population.name)
        return spec is not None and spec.mode == "bias"

    @property
    def _inputs(self) -> str:
        """The columns of ``inputs`` that the population takes."""
        if len(self.network.inputs) == 1:
            return "inputs"
        place = self.network.input_places[self.population.name]
        return f"inputs[:, {int(place.start)}:{int(place.stop)}]"

    @property
    def _shape(self) -> str:
        return f"shape={int_tuple((self.population.neurons + self.constants,))}"

    @property
    def _reset(self) -> tuple[str, ...]:
        offset = f"reset_offset={int(self.population.start) + 1}"
        wait = int(self.population.wait)
        return ("reset_interval=period", offset, f"wait={wait}") if wait else ("reset_interval=period", offset)

    def lines(self) -> list[str]:
        """Source lines that append the population to ``net``.

        Raises:
            TypeError: a neuron that has no integer form.
        """
        neuron, process = self.population.neuron, process_name(self.network, self.population)
        lines = [f"# Population {self.number}: {type(neuron).__name__}, {self.population.neurons} neurons."]
        match neuron:
            case Source():
                settings = f"constants={int_tuple(constant_messages(self.constants))}{', once=True' * neuron.once}"
                return [*lines, f"net.append(source({self._inputs}, period, {settings}))"]
            case GradedReLU() | Graded():
                lines.append(f"net.append({process}({self._shape}, vth=0))")
            case LIF():
                lines += self._lif(neuron, process)
            case IF():
                lines += self._if(neuron)
            case Integrator():
                threshold = np.array(READOUT_THRESHOLD + (not never_fires(self.network, self.population)))
                lines += self._stock(neuron, process, f"vth={self._parameter('threshold', threshold, 0)}")
            case SigmaDelta():
                lines += self._sigma_delta(neuron, process)
        return [*lines, *self._constant_messages(), *self._drive()]

    def _constant_messages(self) -> list[str]:
        """Messages that constant neurons behind neurons without a bias get from a source of their own."""
        if not self.constants or not isinstance(self.population.neuron, GradedReLU | Graded | SigmaDelta):
            return []
        n, count = self.population.neurons, self.constants
        picked, values = f"pick({count}, {n}, {n + count})", int_tuple(constant_messages(count))
        return [f"constants(net[{self.number}], {picked}, {values})"]

    def _parameter(self, name: str, values: Array, constant: int, *, full: bool = False) -> str:
        """An expression for a parameter: a number, or an array per neuron.

        Args:
            name: of the parameter, part of the array's name.
            values: broadcastable to the population's shape.
            constant: the value of constant neurons.
            full: an array even where one number would do.
        """
        shape, n = self.population.shape, self.population.neurons
        flat = np.broadcast_to(values, shape).reshape(-1)
        first = int(flat[0])
        uniform = bool(np.all(flat == first))
        if uniform and not full and (not self.constants or first == constant):
            return str(first)
        key = f"population_{self.number}_{name}"
        if uniform:
            text = f"np.full({n}, {first}, dtype=np.int32)"
        else:
            text = f"{array_text(key, flat, shape, self.arrays)}.astype(np.int32)"
        return f"padded({text}, {constant}, {self.constants})" if self.constants else text

    def _bias(self, mantissa: Array, constant: int) -> str:
        if not self.driven:
            return self._parameter("bias", mantissa, constant)
        first = f"{self._inputs}[0]"
        return f"padded({first}, {constant}, {self.constants})" if self.constants else first

    def _drive(self) -> list[str]:
        if not self.driven:
            return []
        constant = 1 if isinstance(self.population.neuron, IF) else CONSTANT_BIAS
        values = f"padded({self._inputs}, {constant}, {self.constants})" if self.constants else self._inputs
        return [f"drive(net[{self.number}].bias_mant, {values}, period)"]

    def _lif(self, neuron: LIF, process: str) -> list[str]:
        threshold = self._parameter("threshold", neuron.threshold, 1)
        if process == "TernaryLIF" and isinstance(neuron.fire, Signed):
            lower = self._parameter("lower", -neuron.fire.lower, 0)
            return self._stock(neuron, process, f"vth_hi={threshold}", f"vth_lo={lower}")
        if process != "MicrocodeLIF":
            return self._stock(neuron, process, f"vth={threshold}")
        rest = []
        if neuron.refractory:
            rest.append(f"refractory={self._parameter('refractory', np.array(neuron.refractory), 0)}")
        v0 = f"v0={self._parameter('v0', neuron.v0, 0)}"
        arguments = (*self._update(neuron), f"vth={threshold}", *self._rule(neuron.fire, neuron.reset), *rest, v0)
        return _append(process, self._shape, *arguments, *self._reset)

    def _rule(self, fire: Fire, reset: Reset) -> list[str]:
        """Arguments for a firing rule; constant neurons send 1 by any."""
        found = []
        match fire:
            case Burst(levels):
                found.append(f"levels={self._parameter('levels', np.array(levels), 1)}")
            case Signed(lower, guarded):
                found += [f"lower={self._parameter('lower', lower, 0)}", f"guarded={guarded}"]
        return found + ["subtract=False"] * (reset is Reset.ZERO)

    def _update(self, neuron: LIF | Integrator) -> tuple[str, ...]:
        du, dv = (neuron.du, neuron.dv) if isinstance(neuron, LIF) else (NO_MEMORY, 0)
        return (
            f"du={int(du)}",
            f"dv={int(dv)}",
            f"bias_mant={self._bias(neuron.bias_mant, CONSTANT_BIAS)}",
            f"bias_exp={self._parameter('bias_exp', neuron.bias_exp, 0)}",
        )

    def _stock(self, neuron: LIF | Integrator, process: str, *thresholds: str) -> list[str]:
        update = (*self._update(neuron), *thresholds)
        if process == "LIFReset":
            return _append(process, self._shape, *update, *self._reset)
        start = int(self.population.start)
        lines = [
            f"v0 = {self._parameter('v0', neuron.v0, 0, full=True)}",
            *_append(process, self._shape, "v=v0", *update),
            f"load(net[{self.number}].v, [v0], period, {start})",
        ]
        if isinstance(neuron, LIF) and neuron.du != NO_MEMORY:
            lines.append(f"load(net[{self.number}].u, [np.zeros_like(v0)], period, {start})")
        return lines

    def _if(self, neuron: IF) -> list[str]:
        names = {"vth": ("threshold", neuron.threshold, 1), "v0": ("v0", neuron.v0, 0)}
        given = {key: self._parameter(name, np.asarray(x), c, full=True) for key, (name, x, c) in names.items()}
        bias = self._bias(neuron.bias, 1) if self.driven else self._parameter("bias", neuron.bias, 1, full=True)
        update = (f"vth={given['vth']}", f"bias={bias}", f"v0={given['v0']}")
        return _append("IntegrateAndFire", self._shape, *update, *self._rule(neuron.fire, neuron.reset), *self._reset)

    def _sigma_delta(self, neuron: SigmaDelta, process: str) -> list[str]:
        threshold = f"vth={self._parameter('threshold', neuron.threshold, 1)}"
        if process == "SigmaDelta":
            v0 = self._parameter("v0", neuron.v0, 0, full=True)
            start = int(self.population.start)
            return _append(
                "sigma_delta", threshold, f"v0={v0}", f"rectify={neuron.rectify}", "period=period", f"start={start}"
            )
        v0 = f"v0={self._parameter('v0', neuron.v0, 0)}"
        shift = f"shift={self._parameter('shift', neuron.shift, 0)}"
        return _append(process, self._shape, threshold, v0, shift, f"rectify={neuron.rectify}", *self._reset)


def _append(process: str, *arguments: str) -> list[str]:
    """Lines that append a process to ``net``; long ones with one argument a line."""
    line = f"net.append({process}({', '.join(arguments)}))"
    if len(line) <= LINE:
        return [line]
    return [f"net.append({process}(", *(f"    {argument}," for argument in arguments), "))"]


def never_fires(network: Network, population: Population) -> bool:
    """Whether an integrator provably stays below `READOUT_THRESHOLD` (interval arithmetic).

    Bounds messages by what their source can send, so graded sources prove nothing.
    """
    neuron = population.neuron
    if not isinstance(neuron, Integrator):
        return False
    reach = float(np.abs(neuron.bias).max())
    for projection in network.incoming[population.name]:
        source = network.by_name[projection.source].neuron
        if isinstance(source, Source):
            spec = network.by_input[projection.source]
            message = max(abs(spec.low), abs(spec.high))
        elif (levels := spike_levels(source)) is not None:
            message = max(abs(level) for level in levels)
        else:
            return False
        target, _, weight = projection.connectivity.synapses()
        total = np.bincount(target, np.abs(weight), minlength=1).max() * message
        total += 0 if projection.bias is None else np.abs(projection.bias).max()
        reach += 64 * (np.ceil(total / 2.0 ** int(projection.shift.min())) + 1)
    largest = float(np.abs(neuron.v0).max()) + network.timesteps * reach
    return largest < min(READOUT_THRESHOLD << 6, STATE_LIMIT)
