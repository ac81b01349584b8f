"""The made-up chip Wren as a backend of nmc."""
