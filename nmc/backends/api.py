"""The door for chips: what a backend must offer. Entry-point group ``nmc.backends``.

The entry's name is the family; it loads a class without arguments that satisfies
`Backend`. Our own backends come in by the same door.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from nmc.hardware.target import Target
from nmc.ir.mapping import Routed
from nmc.ir.neurons import Reset
from nmc.passes.base import Pipeline
from nmc.runtime.device import Device

API_VERSION = 1
"""Backends name the version that they were written for; another one is refused."""

Payload = Mapping[str, bytes]
"""Members that a backend adds to the artifact, by path below ``payload/``."""


BURST_LEVELS = 4
"""Spikes that a neuron may send in one step of burst coding, unless the user says."""


@dataclass(frozen=True)
class Options:
    """What the user asked of a compile.

    Attributes:
        levels: ``--levels``: most spikes of a burst; None: `BURST_LEVELS`.
        settings: ``--set stage.option=value``.
        pins: ``--pin``: places by layer, in the words of `nmc.passes.pins`.
        stop: ``--stop``: ``never``, or ``margin``: samples stop once their answer is clear.
        max_changed: ``--max-changed``: per cent of the answers that may be others then.
    """

    timesteps: int = 32
    coding: str = "rate"
    reset: Reset | None = None
    host_input: bool = False
    weight_bits: int | None = None
    partitioner: str = "auto"
    placer: str = "auto"
    optimise: str = "energy"
    effort: str = "normal"
    chips: int | None = None
    strict: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)
    maxpool: str = "exact"
    wait: str = "0"
    levels: int | None = None
    stop: str = "never"
    max_changed: float = 0.1


class Backend(Protocol):
    """A family of chips."""

    name: str
    api_version: int

    def targets(self) -> Mapping[str, Target]:
        """The chips of the family by name."""
        ...

    def pipeline(self, target: Target, options: Options) -> Pipeline:
        """The passes from a `LayerGraph` to a `Routed`."""
        ...

    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        """The runnable program for the chip."""
        ...

    def devices(self) -> Mapping[str, Device]:
        """What executes an artifact of this family, besides the simulator, by name."""
        ...
