"""How well held-out answers are predicted: nats a token, per class and condition."""
