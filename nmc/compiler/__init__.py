"""The driver, the front ends, the command line."""
