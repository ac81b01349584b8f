"""Network to Network: windows and delays."""
