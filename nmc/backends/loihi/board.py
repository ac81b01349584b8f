"""Loihi boards: the emitted program under Lava's hardware run configuration.

Lava reaches boards through Intel's extension (lava-loihi), which is not public: members of the
Intel Neuromorphic Research Community get it from Intel. What is looked for and set here is what
public Lava 0.10 names: the modules that its hardware run configurations import
(``lava.magma.core.run_configs``, ``lava.magma.compiler.compiler``), and the variables of
``lava.utils.loihi`` and ``lava.utils.slurm``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nmc.backends.loihi.interpreter import HELP, VARIABLE, ask, lava_python
from nmc.backends.loihi.lava_run import run_program
from nmc.ir.connectivity import Array
from nmc.ir.diagnostic import Diagnostic
from nmc.runtime.device import Execution

if TYPE_CHECKING:
    from nmc.runtime.artifact import Artifact

EXTENSION = (
    "lava.magma.core.model.c.model",
    "lava.magma.core.model.nc.model",
    "lava.magma.compiler.subcompilers.nc.ncproc_compiler",
)
"""Modules of Intel's extension that a hardware run configuration of public Lava imports."""

OWN_NEURONS = "lava/nmc_neurons/"
"""Members of the emitted program with neurons that stock Lava lacks."""

_FIND = """
import importlib.util, json
def found(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
print(json.dumps([name for name in ("lava.magma.core.run_configs", *{names!r}) if not found(name)]))
"""


@dataclass(frozen=True)
class Board:
    """A Loihi board as a device.

    Attributes:
        name: of the chip's target, and of the device.
        chip: the value of LOIHI_GEN where the user gives none (Lava's own default for Loihi 2).
        stands_for: what LOIHI_GEN begins with for this chip.
    """

    name: str
    chip: str
    stands_for: str

    remedy = (
        "lava-loihi comes from Intel (Intel Neuromorphic Research Community); install it into Lava's Python and name "
        "a board: NXSDKHOST=address, or SLURM=1 with PARTITION or BOARD"
    )

    def missing(self) -> str | None:
        """All that is missing of interpreter, extension and board, and how to get it; None: nothing."""
        return "; ".join([*self._without_extension(), *self._without_board()]) or None

    def _without_extension(self) -> Iterator[str]:
        python = lava_python()
        if not python.exists():
            yield f"interpreter: Lava is not set up, {python} does not exist ({HELP}, or set {VARIABLE})"
            yield f"extension: without a Lava interpreter there is none ({self._get_extension(None)})"
            return
        lacking = ask(python, _FIND.format(names=EXTENSION))
        if isinstance(lacking, str):
            yield f"interpreter: {python} cannot be used: {lacking} ({HELP}, or set {VARIABLE})"
        elif "lava.magma.core.run_configs" in lacking:
            yield f"interpreter: {python} has no Lava ({HELP}, or set {VARIABLE})"
        elif lacking:
            yield f"extension: {python} has no {', '.join(lacking)} ({self._get_extension(python)})"

    def _get_extension(self, python: Path | None) -> str:
        where = f"{python} -m pip install ITS-ARCHIVE" if python else "install it into Lava's Python"
        return f"Intel's lava-loihi, for members of the Intel Neuromorphic Research Community: {where}"

    def _without_board(self) -> Iterator[str]:
        given = os.environ
        slurm = given.get("SLURM", "0") not in ("", "0") and "NOSLURM" not in given
        if not (given.get("NXSDKHOST") or slurm or (self.stands_for == "N2" and given.get("KAPOHOBAY"))):
            yield (
                "board: none is named (set NXSDKHOST=address of its host, or SLURM=1 and, if you like, PARTITION or "
                "BOARD" + (", or KAPOHOBAY=1)" if self.stands_for == "N2" else ")")
            )
        chip = given.get("LOIHI_GEN", self.chip)
        if not chip.startswith(self.stands_for):
            yield f"board: LOIHI_GEN={chip} is not {self.name} (set LOIHI_GEN={self.chip}, or leave it out)"

    def cannot_run(self, artifact: Artifact) -> tuple[Diagnostic, ...]:
        """Why this artifact does not run on the board, whatever is installed; nothing if it does."""
        found = []
        target = artifact.manifest["target"]["name"]
        if target in BOARDS and target != self.name:
            found.append(
                Diagnostic(
                    "board-other-chip",
                    f"the artifact was compiled for {target}, the board is a {self.name}",
                    help=f"compile with --target {self.name}, or use --on {target}",
                )
            )
        own = any(member.startswith(OWN_NEURONS) for member in artifact.payload)
        needs = artifact.manifest.get("microcode") or (["some of its neurons are no stock Lava neurons"] if own else [])
        for need in needs:
            found.append(
                Diagnostic(
                    "board-microcode",
                    f"{need}: without microcode Lava computes them on the host and not on the board",
                    help="compile with --reset zero or --coding graded, or use --on lava",
                )
            )
        return tuple(found)

    def execute(self, artifact: Artifact, inputs: Array, *, trace: frozenset[str] = frozenset()) -> Execution:
        """Run the program that the artifact carries, with Lava's hardware run configuration.

        Raises:
            NmcError: as for `nmc.backends.loihi.lava_run.run_program`.
        """
        environment = {"LOIHI_GEN": os.environ.get("LOIHI_GEN", self.chip)}
        payload, network, stops = artifact.payload, artifact.network, "stop" in artifact.manifest
        return run_program(payload, network, inputs, trace, on=self.name, environment=environment, stops=stops)


BOARDS = {
    "loihi1": Board("loihi1", "N2A2", "N2"),
    "loihi2": Board("loihi2", "N3B3", "N3"),
}
"""By name. The generations are those of ``lava.utils.loihi.ChipGeneration``."""
