"""From rated chats to rows that can be trained on."""
