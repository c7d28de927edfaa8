"""Conversations from files: read, validated, split, weighted and described."""
