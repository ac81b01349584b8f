"""Partitioned to Placed: a core for each cluster."""
