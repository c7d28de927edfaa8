"""From rated chats to an adopted adapter: what is learned from, how it is begun, what came of it."""
