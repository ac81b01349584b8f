from importlib import resources

from nmc.backends.api import Options, Payload
from nmc.backends.standard import standard_pipeline
from nmc.hardware.target import Target
from nmc.hardware.target_file import load_target
from nmc.ir.mapping import Routed
from nmc.passes.base import Pipeline
from nmc.runtime.device import Device
from nmc_wren.emit import emit_core
from nmc_wren.interpreter import WrenInterpreter


class WrenBackend:
    """The family `wren`: targets, passes, the program for the chip, and an interpreter of that program."""

    name = "wren"
    api_version = 1
    default_target = "wren16"

    def targets(self) -> dict[str, Target]:
        text = resources.files("nmc_wren").joinpath("wren16.toml").read_text(encoding="utf-8")
        return {"wren16": load_target(text, lambda name: None)}

    def pipeline(self, target: Target, options: Options) -> Pipeline:
        return standard_pipeline(target, options)

    def emit(self, routed: Routed, target: Target, options: Options) -> Payload:
        return {f"wren/core{c.id}.json": emit_core(routed, c) for c in routed.clusters}

    def devices(self) -> dict[str, Device]:
        return {"wren": WrenInterpreter()}
