"""Loihi 1 and 2 as a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources

from nmc.backends.api import API_VERSION, Options, Payload
from nmc.backends.loihi.board import BOARDS, Board
from nmc.backends.loihi.emit import ARRAYS, PROGRAM, emit_program
from nmc.backends.loihi.emit_processes import microcode
from nmc.backends.loihi.interpreter import install_lava
from nmc.backends.loihi.lava_run import LavaDevice
from nmc.backends.loihi.prove_program import prove_program
from nmc.hardware.target import Target
from nmc.hardware.target_file import load_target
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.passes.base import Pipeline
from nmc.runtime.device import Device
from nmc.runtime.stopping import MarginRule


class LoihiBackend:
    """The family ``loihi``: targets, passes, Lava programs, and Lava as a device.

    Attributes:
        default_target: the target that the family's own name stands for (``--target loihi``).
    """

    name: str = "loihi"
    api_version: int = API_VERSION
    default_target: str = "loihi2"

    def targets(self) -> Mapping[str, Target]:
        """The chips by name; ``loihi`` is not among them, it stands for `default_target`.

        Raises:
            NmcError: a target file is broken.
        """
        texts = _target_files()
        loaded = [load_target(texts[name], texts.get) for name in sorted(texts)]
        return {target.name: target for target in loaded}

    def target_text(self, name: str) -> str | None:
        """The target file of a chip, for files of users that extend it; None: no such chip."""
        return _target_files().get(name)

    def pipeline(self, target: Target, options: Options) -> Pipeline:
        """The passes from a `LayerGraph` to a `Routed`.

        Raises:
            NmcError: an option that this family or target does not have.
        """
        # Imported here: listing targets must not load every pass.
        from nmc.backends.standard import standard_pipeline

        return standard_pipeline(target, options)

    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        """The Lava program of the mapped network: `nmc.backends.loihi.emit.emit_program`.

        Lava's CPU models have no cores, so the placement is not part of it.

        Raises:
            NmcError: something that Lava cannot do exactly, or the program read back is not the network (exit 70).
        """
        return self._proved(routed.network, None)

    def emit_stopping(self, routed: Routed, target: Target, options: Options, rule: MarginRule) -> Payload:
        """`emit`, with samples that stop early as a rule says.

        Raises:
            NmcError: as for `emit`.
        """
        return self._proved(routed.network, rule)

    def _proved(self, network: Network, rule: MarginRule | None) -> Payload:
        payload = emit_program(network, rule)
        prove_program(payload, network, PROGRAM, ARRAYS, rule)
        return payload

    def microcode(self, network: Network) -> tuple[str, ...]:
        """What of a network needs neuron microcode on hardware, in words; empty: all stock."""
        return microcode(network)

    def install(self, name: str, log: Callable[[str], None]) -> str:
        """Set the device ``lava`` up (``nmc doctor --install lava``); what is there now, in words.

        Raises:
            NmcError: (exit 6) no way to set it up worked, or it is a board.
            ValueError: another device.
        """
        if name in BOARDS:
            raise NmcError.single(
                "board-not-installable",
                f"nmc cannot set up a board; {name} lacks: {BOARDS[name].missing() or 'nothing, it is ready'}",
                ExitCode.MISSING,
                help=Board.remedy,
            )
        if name not in self.devices():
            raise ValueError(f"the backend loihi has no device {name!r}")
        lava = install_lava(log)
        major, minor = lava.python_version
        return f"Lava {lava.lava_version} under Python {major}.{minor}: {lava.python}"

    def devices(self) -> Mapping[str, Device]:
        """``lava``: the emitted program in Lava's simulation; ``loihi1`` and ``loihi2``: on a board."""
        return {"lava": LavaDevice(), **BOARDS}


def _target_files() -> dict[str, str]:
    """The text of every target file by name."""
    folder = resources.files("nmc.backends.loihi").joinpath("targets")
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
