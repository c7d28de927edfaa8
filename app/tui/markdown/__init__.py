"""Markdown that grows: from the text of a reply to rows of a terminal, piece by piece.

Textual's own `Markdown` re-parses, re-mounts and lays out on every append, which cost the
decoder a third of its speed on two cores. Here finished blocks are never touched again,
and only the unfinished last one is made anew. Nothing in this package is a widget.
"""
