"""Contenders answer the same prompts, and each answer is graded by itself."""
