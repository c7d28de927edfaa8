<<<<<<< HEAD
"""A model as the judge of answers."""
=======
"""A model judges answers: one against another, or each by a grade from 1 to 10."""
>>>>>>> 3d43aff0fe8b39a7846caee659d325bdc744cac5
