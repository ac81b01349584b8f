"""Loihi passes the suite that a stranger's chip passes; Lava is its device."""

import pytest

from nmc.backends.loihi.backend import LoihiBackend
from nmc.testing.conformance import suite

MARKS = {
    "device-lava/*": pytest.mark.lava,
    # Lava takes seconds to start: the quick run has the perceptron and the residual block.
    "device-lava/*-conv-*": pytest.mark.slow,
    "device-lava/*-pooled-*": pytest.mark.slow,
}

globals().update(suite(LoihiBackend, marks=MARKS))
