"""Fast exact execution of populations and projections; numba lives only here."""
