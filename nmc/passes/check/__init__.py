"""The independent checker of a mapping."""
