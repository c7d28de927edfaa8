"""From rated chats to an adapter that is adopted, and back."""
