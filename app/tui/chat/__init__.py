"""What the chat window does, one module for each thing that a user names: chats, prompts, turns,
options, models, drafts, attachments.

None of these is a widget, and all work on one `WindowContext`: the screen turns keys and
messages into calls of theirs.
"""
