"""Multiple choice: does the model know which of a few answers is right?"""
