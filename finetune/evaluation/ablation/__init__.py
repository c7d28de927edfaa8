"""What classes, conditions and rewards each bring: the same training without one or the other."""
