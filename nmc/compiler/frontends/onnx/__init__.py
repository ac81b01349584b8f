"""The ONNX reader: from a file to a `LayerGraph`, or to every reason why not."""

from nmc.compiler.frontends.onnx.operator_page import operator_page
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
