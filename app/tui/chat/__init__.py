"""What the chat window does, one module for each thing: sending, choosing, drafts, counts.

None of these is a widget: the screen turns keys and messages into calls of theirs.
"""
