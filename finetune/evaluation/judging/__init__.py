"""A model as the judge of answers."""
