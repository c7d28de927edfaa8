"""From data to adapter."""
