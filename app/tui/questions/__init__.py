"""What the window asks over itself: a line, yes or no, one of several, a longer text."""
