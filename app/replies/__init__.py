"""A branch of a chat becomes a request, and a reply becomes rows."""
