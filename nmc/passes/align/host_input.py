"""The first layer on the host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from nmc.ir.network import Network
from nmc.passes.base import Context


@dataclass(frozen=True)
class HostInput:
    """Let the host compute the populations that read nothing but inputs.

    Their messages enter the chip at the host's port, and their operations count as the
    host's. The input populations themselves are on the host then, whatever their neurons.
    """

    name: ClassVar[str] = "host-input"
    stage: ClassVar[str] = "align"
    consumes: ClassVar[type[Network]] = Network
    produces: ClassVar[type[Network]] = Network

    def run(self, program: Network, context: Context) -> Network:
        """The same network with `on_host` set; read-outs always stay on the chip."""
        entries = set(program.by_input)
        moved = set(entries)
        for population in program.populations:
            sources = {p.source for p in program.incoming[population.name]}
            if sources and sources <= entries and population.name not in program.read_outs:
                moved.add(population.name)
        populations = tuple(replace(p, on_host=p.on_host or p.name in moved) for p in program.populations)
        return replace(program, populations=populations)
