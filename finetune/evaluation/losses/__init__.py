"""How well held-out answers are predicted, per class and condition."""
