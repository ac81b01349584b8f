"""The manifest of an artifact: what it was compiled from and how (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from nmc import __version__
from nmc.backends.api import Options
from nmc.compiler.frontends.onnx import SourceModel
from nmc.hardware.target import Target
from nmc.ir.mapping import Routed
from nmc.ir.network import Network
from nmc.ir.neurons import Reset
from nmc.runtime.data import Data, Preprocessing
from nmc.runtime.stopping import MarginRule


@dataclass(frozen=True)
class Calibration:
    """What a compile was calibrated on.

    Attributes:
        kind: ``data``, or ``random``: seeded inputs.
        samples: how many.
        hash: of the raw samples; empty for seeded inputs.
        assured: whether the samples are the user's.
    """

    kind: str
    samples: int
    hash: str
    assured: bool

    @classmethod
    def of(cls, data: Data | None, samples: int) -> Calibration:
        """Of the user's data, or of seeded inputs."""
        if data is None:
            return cls("random", samples, "", False)
        return cls("data", samples, data.hash, data.kind != "random")


def make_manifest(
    model: SourceModel,
    target: Target,
    routed: Routed,
    calibration: Calibration,
    options: Options,
    *,
    preprocess: str | None,
    seed: int,
    pipeline: str,
    stop: MarginRule | None = None,
) -> Mapping[str, object]:
    """The manifest of an artifact, without what saving adds.

    Args:
        model: it was compiled from.
        target: it was compiled for.
        routed: what came out.
        calibration: what it was calibrated on.
        options: the user's.
        preprocess: text of ``--preprocess``.
        seed: of every random choice.
        pipeline: text of the passes.
        stop: when samples end; None: after all steps.
    """
    preprocessing = Preprocessing.parse(preprocess or "")
    return {
        "nmc": __version__,
        "target": {"name": target.name, "family": target.family, "hash": target.hash},
        "pipeline": pipeline,
        "options": {
            "coding": options.coding,
            "timesteps": routed.network.timesteps,
            "levels": options.levels,
            "reset": str(options.reset or target.neurons.resets[0]),
            "host_input": options.host_input,
            "weight_bits": options.weight_bits,
            "partitioner": options.partitioner,
            "placer": options.placer,
            "optimise": options.optimise,
            "effort": options.effort,
            "chips": options.chips,
            "strict": options.strict,
            "maxpool": options.maxpool,
            "wait": options.wait,
            "settings": dict(options.settings),
            "pins": dict(options.pins),
            **({} if stop is None else {"stop": options.stop, "max_changed": options.max_changed}),
        },
        "preprocessing": preprocessing.to_dict(),
        "seed": seed,
        "calibration": asdict(calibration),
        "source": {"name": model.name, "sha256": model.sha256},
        "timesteps": routed.network.timesteps,
        "coding": options.coding,
        "microcode": list(_microcode(target, routed.network)),
        "assumptions": list(target.assumptions),
        **({} if stop is None else {"stop": stop.to_dict()}),
    }


def _microcode(target: Target, network: Network) -> tuple[str, ...]:
    """What the network uses that the target does only with neuron microcode, in words."""
    words = {str(Reset.SUBTRACT): "subtractive reset", str(Reset.ZERO): "reset to zero"}
    used = {str(getattr(p.neuron, "reset", "")) for p in network.populations}
    return tuple(
        f"neurons with {words.get(name, name)} need neuron microcode on {target.name}, which stock neurons lack"
        for name in target.neurons.microcode
        if name in used
    )
