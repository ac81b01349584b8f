"""Compiles trained neural networks to neuromorphic chips.

compiled = nmc.compile("model.onnx", "loihi", calib=x_train[:256])
print(compiled)
compiled.artifact.eval(x_test, y_test)
compiled.artifact.save("model.nmc")
"""

import os
from typing import TYPE_CHECKING

# ONNX Runtime reports the models that it loads over the network and leaves a file behind,
# unless one of these (by version) is set before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ["ORT_TELEMETRY_DISABLED"] = "1"

__version__ = "0.1.0"

__all__ = ["__version__", "check", "compile", "device", "load"]

if TYPE_CHECKING:
    from nmc.api import check, compile, device, load


def __getattr__(name: str) -> object:
    """The verbs are imported when they are used: ``nmc --help`` needs none of them."""
    if name in __all__:
        from nmc import api

        return getattr(api, name)
    raise AttributeError(f"module 'nmc' has no attribute '{name}'")
