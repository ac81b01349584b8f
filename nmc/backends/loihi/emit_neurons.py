"""Populations as Lava processes: stock ones wherever Lava has the arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmc.backends.loihi.emit_synapses import array_text, constant_messages, int_tuple
from nmc.ir.connectivity import Array
from nmc.ir.network import Network, Population
from nmc.ir.neurons import IF, LIF, NO_MEMORY, STATE_LIMIT, Graded, GradedReLU, Integrator, Reset, Source

READOUT_THRESHOLD = (1 << 17) - 1
"""Largest threshold mantissa of Loihi's register (17 bit): a read-out below it never fires."""

LINE = 110
"""Longest line of emitted source, without its indentation."""


def microcode(network: Network) -> tuple[str, ...]:
    """What of a network needs neuron microcode on hardware, in words; empty: all stock."""
    found = []
    neurons = [p.neuron for p in network.populations]
    if any(isinstance(n, LIF) and n.reset is Reset.SUBTRACT for n in neurons):
        found.append("LIF with subtractive reset: needs neuron microcode on hardware")
    if any(isinstance(n, IF) for n in neurons):
        found.append("ideal integrate-and-fire: needs neuron microcode on hardware")
    return tuple(found)


def restored_by_loader(population: Population) -> bool:
    """Whether stock Lava needs a `StateDataloader` for its start state: `LIFReset` knows only v = 0."""
    match population.neuron:
        case LIF():
            return population.neuron.reset is Reset.ZERO and bool(np.any(population.neuron.v0))
        case Integrator():
            return bool(np.any(population.neuron.v0))
        case _:
            return False


@dataclass(frozen=True, eq=False)
class PopulationWriter:
    """Writes the lines of one population.

    Attributes:
        number: of the population.
        driven: the population takes the sample as its bias.
        constants: constant neurons behind its own.
        never_fires: of an integrator: its potential provably stays below `READOUT_THRESHOLD`.
        arrays: where parameters go that are no scalars.
    """

    number: int
    population: Population
    driven: bool
    constants: int
    never_fires: bool
    arrays: dict[str, Array]

    @property
    def _shape(self) -> str:
        return f"shape={int_tuple((self.population.neurons + self.constants,))}"

    @property
    def _reset(self) -> tuple[str, str]:
        return "reset_interval=period", f"reset_offset={int(self.population.start) + 1}"

    def lines(self) -> list[str]:
        """Source lines that append the population to ``net``.

        Raises:
            TypeError: a neuron that has no integer form.
        """
        n, neuron = self.population.neurons, self.population.neuron
        head = f"# Population {self.number}: {type(neuron).__name__}, {n} neurons."
        match neuron:
            case Source():
                values = constant_messages(self.constants)
                return [head, f"net.append(source(inputs, period, constants={int_tuple(values)}))"]
            case GradedReLU() | Graded():
                process = "GradedReluVec" if isinstance(neuron, GradedReLU) else "GradedVec"
                lines = [head, f"net.append({process}({self._shape}, vth=0))"]
                if self.constants:
                    count, values = self.constants, constant_messages(self.constants)
                    picked = f"pick({count}, {n}, {n + count})"
                    lines.append(f"constants(net[{self.number}], {picked}, {int_tuple(values)})")
                return lines
            case LIF():
                return [head, *self._lif(neuron)]
            case IF():
                return [head, *self._if(neuron)]
            case Integrator():
                threshold = READOUT_THRESHOLD + (0 if self.never_fires else 1)
                return [head, *self._stock(neuron, threshold=np.array(threshold), du=NO_MEMORY, dv=0)]
            case _:
                raise TypeError(f"no integer form of {type(neuron).__name__}")

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

    def _bias(self, mantissa: Array) -> str:
        if not self.driven:
            return self._parameter("bias", mantissa, 1)
        return f"padded(inputs[0], 1, {self.constants})" if self.constants else "inputs[0]"

    def _drive(self) -> list[str]:
        if not self.driven:
            return []
        values = f"padded(inputs, 1, {self.constants})" if self.constants else "inputs"
        return [f"drive(net[{self.number}].bias_mant, {values}, period)"]

    def _lif(self, neuron: LIF) -> list[str]:
        if neuron.reset is Reset.ZERO:
            return self._stock(neuron, threshold=neuron.threshold, du=neuron.du, dv=neuron.dv)
        # Constant neurons: threshold 0 and a bias above it, so that they fire in every step.
        update = self._update(neuron, neuron.threshold, neuron.du, neuron.dv)
        v0 = f"v0={self._parameter('v0', neuron.v0, 0)}"
        return [*_append("SubtractiveLIF", self._shape, *update, v0, *self._reset), *self._drive()]

    def _update(self, neuron: LIF | Integrator, threshold: Array, du: int, dv: int) -> tuple[str, ...]:
        return (
            f"du={int(du)}",
            f"dv={int(dv)}",
            f"vth={self._parameter('threshold', threshold, 0)}",
            f"bias_mant={self._bias(neuron.bias_mant)}",
            f"bias_exp={self._parameter('bias_exp', neuron.bias_exp, 0)}",
        )

    def _stock(self, neuron: LIF | Integrator, *, threshold: Array, du: int, dv: int) -> list[str]:
        update = self._update(neuron, threshold, du, dv)
        if not restored_by_loader(self.population):
            return [*_append("LIFReset", self._shape, *update, *self._reset), *self._drive()]
        start = int(self.population.start)
        lines = [
            f"v0 = {self._parameter('v0', neuron.v0, 0, full=True)}",
            *_append("LIF", self._shape, "v=v0", *update),
            f"load(net[{self.number}].v, [v0], period, {start})",
        ]
        if du != NO_MEMORY:
            lines.append(f"load(net[{self.number}].u, [np.zeros_like(v0)], period, {start})")
        return lines + self._drive()

    def _if(self, neuron: IF) -> list[str]:
        names = {"vth": ("threshold", neuron.threshold, 1), "v0": ("v0", neuron.v0, 0)}
        given = {key: self._parameter(name, np.asarray(x), c, full=True) for key, (name, x, c) in names.items()}
        bias = self._bias(neuron.bias) if self.driven else self._parameter("bias", neuron.bias, 1, full=True)
        update = (f"vth={given['vth']}", f"bias={bias}", f"v0={given['v0']}")
        subtract = f"subtract={neuron.reset is Reset.SUBTRACT}"
        return [*_append("IntegrateAndFire", self._shape, *update, subtract, *self._reset), *self._drive()]


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
        if isinstance(source, Graded | GradedReLU):
            return False
        message = max(abs(network.input.low), abs(network.input.high)) if isinstance(source, Source) else 1
        target, _, weight = projection.connectivity.synapses()
        total = np.bincount(target, np.abs(weight), minlength=1).max() * message
        total += 0 if projection.bias is None else np.abs(projection.bias).max()
        reach += 64 * (np.ceil(total / 2.0 ** int(projection.shift.min())) + 1)
    largest = float(np.abs(neuron.v0).max()) + network.timesteps * reach
    return largest < min(READOUT_THRESHOLD << 6, STATE_LIMIT)
