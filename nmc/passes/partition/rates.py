"""How often neurons send: measured on calibration inputs, so that packets can be counted."""

from __future__ import annotations

from collections.abc import Mapping

from nmc.ir.network import Network
from nmc.ir.reference import encode
from nmc.passes.base import Context

SAMPLES = 16
"""Calibration inputs that are run, at most."""


def measured_rates(network: Network, context: Context) -> Mapping[str, float]:
    """Messages per neuron and step of the window, by population, over calibration inputs.

    Empty where there are no inputs: every population then counts one message per step.
    """
    inputs = context.calibration.inputs[:SAMPLES]
    if not len(inputs):
        return {}
    # Imported here: the compiled kernels take a while to load, and listing passes needs none.
    from nmc.kernels import layerwise

    return dict(layerwise.message_rates(network, encode(network, inputs)))
