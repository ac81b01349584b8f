"""Builders, random networks and fault planting for tests, ours and plugin authors'."""
