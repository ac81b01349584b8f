"""The ONNX reader: from a file to a `LayerGraph`, or to every reason why not.

Names are imported when they are used: whoever reads in a child process needs no ONNX library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nmc.compiler.frontends.onnx.page import operator_page
    from nmc.compiler.frontends.onnx.read import check_model, read_model
    from nmc.compiler.frontends.onnx.registry import operator_table
    from nmc.compiler.frontends.onnx.source import ModelCheck, OperatorSupport, OperatorUse, SourceModel

__all__ = [
    "ModelCheck",
    "OperatorSupport",
    "OperatorUse",
    "SourceModel",
    "check_model",
    "operator_page",
    "operator_table",
    "read_model",
]

_HOMES = {"operator_page": "page", "check_model": "read", "read_model": "read", "operator_table": "registry"}


def __getattr__(name: str) -> object:
    """A public name, out of the module that defines it."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'source')}"), name)
