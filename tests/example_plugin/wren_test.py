from nmc.testing.conformance import suite
from nmc_wren.backend import WrenBackend

globals().update(suite(WrenBackend))
