"""Network to Partitioned: clusters that fit a core."""
