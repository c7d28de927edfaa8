"""What a person touches: the terminal window, the command line, and the chats they keep."""
