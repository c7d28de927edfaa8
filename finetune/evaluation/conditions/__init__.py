"""What a condition changes: losses, distributions, answers, and where answers lie."""
