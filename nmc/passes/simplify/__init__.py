"""LayerGraph to LayerGraph: fold, remove, legalise."""
