"""Find the way of every message through the mesh."""

from nmc.passes.route.xy import RouteXY

__all__ = ["RouteXY"]
