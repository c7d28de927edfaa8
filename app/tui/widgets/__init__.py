"""The parts of the window, one a file, each with its own style."""
