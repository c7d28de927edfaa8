"""The chat window in a browser: a page, and behind it a process of the window for each tab."""
