"""Searching the options of a compile: what they cost in accuracy, energy and latency.

`space` says what may be varied on a target, `trial` compiles one choice and measures it, `study`
searches (Optuna), `result` holds what came out, and `choose` takes a coding for ``--coding auto``.
"""
