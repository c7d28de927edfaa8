"""Two contenders answer the same prompts; who is preferred, and by how much."""
