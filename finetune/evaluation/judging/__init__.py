"""A model judges answers: one against another, or each by a grade from 1 to 10."""
