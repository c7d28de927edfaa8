"""A training run: a directory; killed at any moment, it resumes where its checkpoint is."""
