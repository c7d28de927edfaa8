"""Two contenders answer the same prompts; whose answers are preferred, and by how much."""
