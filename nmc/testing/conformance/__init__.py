"""The suite that every backend passes, ours and a plugin author's.

In a test file of the plugin::

    from nmc.testing.conformance import suite
    from my_chip.backend import MyBackend

    globals().update(suite(MyBackend))
"""

from nmc.testing.conformance.suite import suite

__all__ = ["suite"]
