"""Conversations to token ids: role headers, contents, ends of turns; and when to stop."""

from openchat_local.models.template.choice import choose_template
from openchat_local.models.template.families import FAMILIES, Family
from openchat_local.models.template.rendering import Piece, Rendered, Span, Template

__all__ = ["FAMILIES", "Family", "Piece", "Rendered", "Span", "Template", "choose_template"]
