"""Neurons that hear more than a core can get their sums in parts, from relays on other cores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nmc.hardware.target import Target
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import PARTS, SUM, Network, Population, Projection
from nmc.ir.neurons import LIF, Graded, GradedReLU, Neuron, Source, spike_levels
from nmc.ir.origin import Origin
from nmc.ir.reference import encode
from nmc.passes.align.align_windows import aligned
from nmc.passes.base import Context
from nmc.passes.partition.assemble import chip_populations
from nmc.passes.partition.demand import DemandModel
from nmc.passes.partition.feasibility import exceeded_by_one, widest_demand
from nmc.passes.partition.partial_sums import Cut, cuts, largest_sum, measured_sum
from nmc.passes.partition.signed_relays import (
    fits,
    held_back,
    is_spiking,
    relay_neuron,
    sends_signs,
    threshold_for,
)

RELAYS = ("graded", "signed")
"""How relays send partial sums."""

SPLIT_HELPS = ("in_axons", "synapse_bits")
"""Limits that partial sums help with."""

MARGIN = 4
"""Partial sums are assumed to stay within this many times their range on calibration inputs."""

SAMPLES = 4
"""Calibration inputs on which partial sums are measured, where messages have no bound."""

SUM_LIMIT = 2**31
"""No sum may reach it (docs/arithmetic.md section 4)."""

TRIED = 12
"""Ways to cut a projection that are tried, each with more parts."""


@dataclass(frozen=True)
class SplitFanIn:
    """Cut projections of which one neuron exceeds a core into partial sums.

    Relay neurons add up a part of the sources each, send the sum as a graded message, and the neuron
    adds what they send: integers, so that nothing changes but one step more of latency. Only on
    targets with graded messages; the network stays as it is where everything fits.

    Messages of spiking neurons and inputs have bounds, so that the partial sums fit into a message
    for sure. Graded ones have none: then sums on calibration inputs count, four times as large.

    Attributes:
        relays: ``graded``, or ``signed``: relays of spiking layers send signed spikes instead, which
            is not exact (`nmc.passes.partition.signed_relays`). Their thresholds are the largest
            partial sum of a step on calibration inputs, and what they hold back is said.
    """

    name: ClassVar[str] = "split-fan-in"
    stage: ClassVar[str] = "partition"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    relays: str = "graded"

    @property
    def exact(self) -> bool:
        """Whether every population sends the same as before."""
        return self.relays != "signed"

    def run(self, program: Network, context: Context) -> Network:
        """The network with relays; the same object where every neuron fits a core.

        Raises:
            NmcError: (exit 2) no such relays.
        """
        if self.relays not in RELAYS:
            raise NmcError.single(
                "option-invalid",
                f"{self.name} has no relays '{self.relays}'",
                ExitCode.USAGE,
                help=f"relays: {', '.join(RELAYS)}",
            )
        target, network = context.target, program
        unit = target.weights.step
        signed = not self.exact and sends_signs(target)
        if not (signed or sends_sums(target)) or not program.is_integer or unit & (unit - 1):
            return program
        wide = too_wide(DemandModel.of(program, target, {}))
        if not wide:
            return program
        heard = frozenset(p.source for population in wide for p in program.incoming[population.name])
        messages = _Messages(program, heard, context)
        notes: list[tuple[str, Origin]] = []
        held = 0.0
        for population in wide:
            before = network
            if signed and is_spiking(population):
                network, held = _split(network, population, target, messages, signed=True)
            elif sends_sums(target):
                network, held = _split(network, population, target, messages)
            if network is not before:
                notes.append((_said(before, network, population, held), population.origin))
        if network is program:
            return program
        waits = {p.name: p.wait for p in program.populations}
        network = _with_lags(program, aligned(network, waits, target.weights.delay_max))
        delays = [p.delay for p in network.projections]
        if min(delays) < 1 or max(delays) > target.weights.delay_max:
            return program
        for text, origin in notes:
            context.diagnostics.note("fan-in-split", text, origin=origin)
        return network


def sends_sums(target: Target) -> bool:
    """Whether neurons of the target can send a sum in one message."""
    return target.messages.graded_bits > 0 and not {"graded-relu", "sigma-delta"}.isdisjoint(target.neurons.models)


def refusal(target: Target, limits: Sequence[str]) -> str:
    """Why a layer of which one neuron exceeds some limits is not split, in words."""
    if set(SPLIT_HELPS).isdisjoint(limits):
        return "partial sums would not help"
    if not sends_sums(target):
        instead = "; --set split-fan-in.relays=signed sends them as signed spikes" if sends_signs(target) else ""
        return f"partial sums need graded messages, which {target.name} has not{instead}"
    return f"no parts of it fit both the cores and messages of {target.messages.graded_bits} bits"


def _with_lags(before: Network, after: Network) -> Network:
    """The network with what leads back arriving in the same step of its target's window as before."""

    def lead(network: Network, projection: Projection) -> int:
        return network.by_name[projection.source].sends_from - network.by_name[projection.target].start

    projections = tuple(
        replace(p, delay=p.delay + lead(before, p) - lead(after, p)) if p.name in after.recurrent else p
        for p in after.projections
    )
    return replace(after, projections=projections)


def too_wide(model: DemandModel) -> list[Population]:
    """Layers of which one neuron exceeds a limit that partial sums help with."""
    return [
        population
        for population in chip_populations(model.network)
        if not set(SPLIT_HELPS).isdisjoint(exceeded_by_one(model, widest_demand(model, population)))
    ]


def _said(before: Network, after: Network, population: Population, held: float) -> str:
    relays = sum(p.neurons for p in after.populations if p.name not in before.by_name)
    added = (
        f"one neuron of '{population.name}' hears more than a core can: {relays:,} relay neurons add up parts of its "
    )
    if held:
        unit = "of its spikes" if isinstance(population.neuron, LIF) else "of its potential"
        return (
            f"{added}{_sources(before, population):,} sources and send signed spikes; one step more, and at the end "
            f"they hold back {held:.3g} {unit} at most, as long as sums stay within their calibrated range"
        )
    assumed = any(message_bounds(before, before.by_name[p.source]) is None for p in before.incoming[population.name])
    range_of_sums = f", as long as sums stay within {MARGIN} times their calibrated range" if assumed else ""
    return (
        f"{added}{_sources(before, population):,} sources and send the sums; one step more, the same "
        f"integers{range_of_sums}"
    )


def _sources(network: Network, population: Population) -> int:
    return sum(network.by_name[name].neurons for name in {p.source for p in network.incoming[population.name]})


class _Messages:
    """Messages of some populations on calibration inputs, run once and only if somebody asks."""

    def __init__(self, network: Network, kept: frozenset[str], context: Context) -> None:
        self._network, self._kept = network, kept
        self._inputs = context.calibration.inputs[:SAMPLES]
        self._sent: dict[str, Array] | None = None

    def of(self, name: str) -> Array:
        """(M, n) messages of all samples and steps, channels last; M = 0 without inputs."""
        if self._sent is None:
            self._sent = self._run() if len(self._inputs) else {}
        return self._sent.get(name, np.zeros((0, 0), dtype=np.int64))

    def _run(self) -> dict[str, Array]:
        # Imported here: the compiled kernels take a while to load, and listing passes needs none.
        from nmc.kernels.layerwise import LaidNetwork, joined_channels_last

        laid = LaidNetwork.lay(self._network)
        parts: dict[str, list[Array]] = {name: [] for name in self._kept}
        for sample in joined_channels_last(self._network, encode(self._network, self._inputs)):
            for population, messages, _ in laid.run(sample):
                if population.population.name in parts:
                    parts[population.population.name].append(np.asarray(messages))
        return {name: np.concatenate(several) for name, several in parts.items()}


def message_bounds(network: Network, population: Population) -> tuple[int, int] | None:
    """Smallest and largest message that a population can send (0 included); None: no finite bound."""
    if isinstance(population.neuron, Source):
        spec = network.by_input[population.name]
        return (0, max(spec.high, -spec.low)) if spec.split_sign else (min(spec.low, 0), max(spec.high, 0))
    return spike_levels(population.neuron)


def _split(
    network: Network, population: Population, target: Target, messages: _Messages, *, signed: bool = False
) -> tuple[Network, float]:
    """The network with projections of one population cut, the largest first, until a neuron fits; or as it is.

    Returns:
        the network, and what signed relays hold back.
    """
    left = {p.name: p for p in network.incoming[population.name] if p.name not in network.recurrent}
    changed, held = network, 0.0
    while True:
        model = _model(changed, population, target)
        widest = widest_demand(model, population)
        if not exceeded_by_one(model, widest):
            return changed, held
        inputs = {entry.projection: len(entry.neurons) for entry in widest.inputs if entry.projection in left}
        if not inputs:
            return network, 0.0
        name = max(inputs, key=lambda key: inputs[key])
        cutter = _cut_signed if signed else _cut
        found = cutter(changed, left.pop(name), inputs[name], target, messages)
        if found is None:
            return network, 0.0
        changed, held = found[0], held + found[1]


def _model(network: Network, population: Population, target: Target) -> DemandModel:
    """The model of what one population hears: masks of other weights are not needed."""
    return DemandModel.of(replace(network, projections=network.incoming[population.name]), target, {})


def _fewest(fan_in: int, target: Target) -> int:
    return max(-(-fan_in // (target.core.in_axons or fan_in)), 2)


def _cut(
    network: Network, projection: Projection, fan_in: int, target: Target, messages: _Messages
) -> tuple[Network, float] | None:
    """The network with one projection in two steps; None: no cut fits cores and messages."""
    largest = 2 ** (target.messages.graded_bits - 1) - 1
    for cut in itertools.islice(cuts(projection.connectivity, _fewest(fan_in, target)), TRIED):
        reach = _reach(network, projection, cut, messages)
        if reach <= largest and reach * cut.fan_in * target.weights.step < SUM_LIMIT:
            # The smallest weight that the target stores stands for one; the shift takes it back.
            unit = target.weights.step
            relays = _relays(network, projection, cut, Graded())
            changed = _with_relays(network, projection, relays, cut, unit, unit.bit_length() - 1)
            if _fit_cores(changed, relays, target):
                return changed, 0.0
    return None


def _cut_signed(
    network: Network, projection: Projection, fan_in: int, target: Target, messages: _Messages
) -> tuple[Network, float] | None:
    """The same with relays that send signed spikes, and what they hold back."""
    heard = {p.source for p in network.incoming[projection.target]}
    bounds = {name: message_bounds(network, network.by_name[name]) for name in heard}
    known = {name: bound for name, bound in bounds.items() if bound is not None}
    if len(known) < len(bounds):
        return None
    for cut in itertools.islice(cuts(projection.connectivity, _fewest(fan_in, target)), TRIED):
        seen = messages.of(projection.source)
        peak = measured_sum(cut, seen) if len(seen) else largest_sum(cut.parts, *known[projection.source])
        threshold = threshold_for(peak, target)
        if fits(network, projection, cut, threshold, target, known):
            relays = _relays(network, projection, cut, relay_neuron(threshold))
            changed = _with_relays(network, projection, relays, cut, threshold.mantissa, -threshold.exponent)
            if _fit_cores(changed, relays, target):
                return changed, held_back(projection, cut, threshold, network.by_name[projection.target])
    return None


def _fit_cores(network: Network, relays: Population, target: Target) -> bool:
    """Whether every relay fits a core."""
    model = _model(network, relays, target)
    return not exceeded_by_one(model, widest_demand(model, relays))


def _reach(network: Network, projection: Projection, cut: Cut, messages: _Messages) -> float:
    """The largest partial sum that is reckoned with."""
    bounds = message_bounds(network, network.by_name[projection.source])
    if bounds is not None:
        return largest_sum(cut.parts, *bounds)
    seen = messages.of(projection.source)
    return MARGIN * measured_sum(cut, seen) if len(seen) else np.inf


def _relays(network: Network, projection: Projection, cut: Cut, neuron: Neuron) -> Population:
    """The population that sends the partial sums of a projection."""
    target = network.by_name[projection.target]
    names = (f"{target.name}/parts{number or ''}" for number in itertools.count())
    name = next(name for name in names if name not in network.by_name)
    return Population(name, cut.relays, neuron, replace(target.origin, output=""))


def _with_relays(
    network: Network, projection: Projection, relays: Population, cut: Cut, unit: int, down: int
) -> Network:
    """The network with a projection in two steps, not aligned: a message weighs ``unit`` and is shifted ``down``."""
    parts = Projection(projection.name + PARTS, projection.source, relays.name, cut.parts, projection.origin)
    total = replace(
        projection,
        name=projection.name + SUM,
        source=relays.name,
        connectivity=cut.total.with_weight(cut.total.weight * unit),
        shift=projection.shift + down,
        bias=None if projection.bias is None else projection.bias * unit,
    )
    populations = [q for p in network.populations for q in ([relays, p] if p.name == projection.target else [p])]
    projections = [q for p in network.projections for q in ([parts, total] if p is projection else [p])]
    scales = {**network.scales, relays.name: _scale(network, projection, cut)}
    return replace(network, populations=tuple(populations), projections=tuple(projections), scales=scales)


def _scale(network: Network, projection: Projection, cut: Cut) -> Array:
    """Real value of one unit of a partial sum: of the target's message before its shift; 1 where it has none."""
    target = network.by_name[projection.target]
    if not isinstance(target.neuron, GradedReLU | Graded):
        return np.ones(len(cut.channel))
    channels = projection.connectivity.out_shape[0]
    unit = np.broadcast_to(network.scales[target.name] / np.exp2(projection.shift), (channels,))
    return np.asarray(unit[cut.channel])
