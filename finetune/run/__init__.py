"""A training run: a directory that can be killed at any moment and gone on with."""
