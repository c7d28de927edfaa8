"""From chats and what their owner thinks of them to an adapter that answers better."""
