"""Random valid networks, mutants of them, and what all of them must hold."""
