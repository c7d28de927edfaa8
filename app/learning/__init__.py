"""From rated chats to an adapter that answers as their owner likes."""
