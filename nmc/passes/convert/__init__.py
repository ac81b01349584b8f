"""LayerGraph to Network: codings."""
