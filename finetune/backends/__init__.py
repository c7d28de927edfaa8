"""What computes a training step: one protocol, MLX and torch, and the choice between them."""
