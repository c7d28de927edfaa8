"""What an adapter has learned, in figures."""
