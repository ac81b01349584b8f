"""How often neurons send: measured on calibration inputs, so that packets can be counted."""

from __future__ import annotations

from collections.abc import Mapping

from nmc.ir.connectivity import Array
from nmc.ir.network import Network
from nmc.ir.reference import encode
from nmc.passes.base import Context
from nmc.passes.simplify.compose import synapse_bound

SAMPLES = 16
"""Calibration inputs that are run, at most, ..."""

SYNAPSES = 1 << 32
"""... and synapses of all of them together: some seconds. A ResNet-50 has as many for one."""


def sampled(network: Network, context: Context) -> Array:
    """The first calibration inputs: as many as are run to see how often neurons send; perhaps none."""
    each = sum(synapse_bound(p.connectivity) for p in network.projections)
    return context.calibration.inputs[: max(min(SAMPLES, SYNAPSES // max(each, 1)), 1)]


def measured_rates(network: Network, context: Context) -> Mapping[str, float]:
    """Messages per neuron and step of the window, by population, over calibration inputs.

    Empty where there are no inputs: every population then counts one message per step.
    """
    inputs = sampled(network, context)
    if not len(inputs):
        return {}
    # Imported here: the compiled kernels take a while to load, and listing passes needs none.
    from nmc.kernels import layerwise

    return dict(layerwise.message_rates(network, encode(network, inputs)))
