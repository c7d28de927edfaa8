"""What data come in: compressed or not, lines, lists, tables, folders; all of them as values."""
