"""Settings: their types, where they come from, and what a chat changes of them."""
