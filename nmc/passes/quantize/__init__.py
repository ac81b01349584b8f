"""Network to Network: what the chip stores."""
