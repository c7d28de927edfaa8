"""The screens: the chat itself, and those with lists: search, models, settings, keys."""
