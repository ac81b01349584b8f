"""One folder per chip family; `api` is all that a plugin author needs."""
