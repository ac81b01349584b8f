"""Judge a finished mapping."""

from nmc.passes.check.check_mapping import CheckMapping, mapping_diagnostics

__all__ = ["CheckMapping", "mapping_diagnostics"]
