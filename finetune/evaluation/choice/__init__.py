"""Questions with options, by likelihood and by the written letter."""
