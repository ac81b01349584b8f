"""Windows and delays: every layer works on the right steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.network import Network, Population
from nmc.ir.neurons import IF, LIF
from nmc.passes.base import Context

WAITS = ("0", "1", "auto")
"""Which populations wait: none, all, or those that gain most."""


@dataclass(frozen=True)
class AlignWindows:
    """Give every population its window and every projection the delay that matches it.

    A population starts one step after its latest source may first send; an edge from an
    earlier source (a residual skip) waits: ``delay = start(target) - sends_from(source)``.
    Without this, biases act before spikes arrive and skips arrive before their branch.
    Recurrent projections keep their delay.

    A population whose skip would wait longer than the target can delay starts later, as late as its
    next reader allows: the skip waits in two places then, or in as many as lie on its way.

    A population that waits takes sums in for one step before it may send, so that it knows more
    when it decides. That costs a step of latency and hardly any spikes.

    Attributes:
        wait: ``0``, ``1``: every spiking population but the input, or ``auto``: those inside residual
            branches, where most of the gain is for half the steps; every other one in a
            network without branches.
    """

    wait: str = "0"

    name: ClassVar[str] = "align-windows"
    stage: ClassVar[str] = "align"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The same network with `start`, `wait` and `delay` set; delays above the target's are errors.

        Raises:
            NmcError: (exit 2) no such choice of `wait`.
        """
        waiting = self._waiting(program)
        moved = aligned(program, {name: 1 for name in waiting}, context.target.weights.delay_max)
        for projection in moved.projections:
            if projection.delay > context.target.weights.delay_max:
                context.diagnostics.error(
                    "delay-too-long",
                    f"the skip {projection.name} must wait {projection.delay} steps; "
                    f"{context.target.name} delays at most {context.target.weights.delay_max}",
                    origin=projection.origin,
                    help="shorten the branch that the skip goes around",
                )
        return moved

    def _waiting(self, network: Network) -> frozenset[str]:
        """Names of the populations that wait."""
        if self.wait not in WAITS:
            raise NmcError.single(
                "wait-unknown",
                f"no choice of waiting steps is called '{self.wait}'",
                ExitCode.USAGE,
                help=f"use one of {', '.join(WAITS)}",
            )
        if self.wait == "0":
            return frozenset()
        able = [
            p.name
            for p in network.populations
            if isinstance(p.neuron, IF | LIF) and network.incoming[p.name] and p.name not in network.read_outs
        ]
        if self.wait == "1":
            return frozenset(able)
        inside = _inside_branches(network)
        return frozenset(name for name in able if name in inside) if inside else frozenset(able[::2])


def aligned(network: Network, waits: Mapping[str, int], longest: int | None = None) -> Network:
    """The network with every window and delay as the longest path asks for.

    Args:
        network: in topological order.
        waits: steps that populations wait, 0 where missing.
        longest: delay of the target: populations start later where that keeps their projections within it.
    """
    start: dict[str, int] = {}
    sends: dict[str, int] = {}
    for population in network.populations:
        sources = [sends[p.source] for p in network.incoming[population.name] if p.name not in network.recurrent]
        start[population.name] = max(sources) + 1 if sources else 0
        sends[population.name] = start[population.name] + waits.get(population.name, 0)
    for population in reversed(network.populations):
        later = _later(network, population, start, sends[population.name], longest)
        start[population.name] += later
        sends[population.name] += later
    projections = tuple(
        p if p.name in network.recurrent else replace(p, delay=start[p.target] - sends[p.source])
        for p in network.projections
    )
    populations = tuple(
        replace(p, start=start[p.name], wait=sends[p.name] - start[p.name]) for p in network.populations
    )
    return replace(network, populations=populations, projections=projections)


def _later(network: Network, population: Population, start: Mapping[str, int], sends: int, longest: int | None) -> int:
    """Steps by which a population starts later, for the sake of what reads it much later."""
    incoming, outgoing = network.incoming[population.name], network.outgoing[population.name]
    fixed = population.on_host or not incoming or not outgoing
    if longest is None or fixed or any(p.name in network.recurrent for p in (*incoming, *outgoing)):
        return 0
    delays = [start[p.target] - sends for p in outgoing]
    return max(min(max(delays) - longest, min(delays) - 1), 0)


def _inside_branches(network: Network) -> frozenset[str]:
    """Populations on a way around a skip: between its source and its target."""
    place = {p.name: number for number, p in enumerate(network.populations)}
    inside: set[str] = set()
    for population in network.populations:
        sources = {p.source for p in network.incoming[population.name] if p.name not in network.recurrent}
        if len(sources) < 2:
            continue
        skipped = min(sources, key=lambda name: place[name])
        reached = sources - {skipped}
        branch: set[str] = set()
        # Backwards from the join; nothing before the skip's source lies on the branch.
        while reached:
            name = max(reached, key=lambda name: place[name])
            reached.discard(name)
            if place[name] <= place[skipped]:
                continue
            branch.add(name)
            reached |= {p.source for p in network.incoming[name] if p.name not in network.recurrent}
        inside |= branch
    return frozenset(inside)
