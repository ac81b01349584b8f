"""What a chip costs: target files, energy, timing."""
