"""Readers: a file becomes a `LayerGraph`."""
