"""Placed to Routed: which messages go where."""
