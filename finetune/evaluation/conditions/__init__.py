"""What a condition changes: losses, next tokens, answers, and where answers lie."""
