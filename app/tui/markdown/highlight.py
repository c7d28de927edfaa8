"""Code with colours: Pygments' tokens, reduced to the few styles a terminal shows well."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from openchat_local.app.tui.markdown.rows import Row, Run

if TYPE_CHECKING:
    from pygments.lexer import Lexer

# The first part of a token's dotted name that is listed decides; longer names come first.
_STYLES = (
    ("Token.Keyword", "keyword"),
    ("Token.Operator.Word", "keyword"),
    ("Token.Literal.String", "string"),
    ("Token.Literal.Number", "number"),
    ("Token.Comment", "comment"),
    ("Token.Name.Function", "name"),
    ("Token.Name.Class", "name"),
    ("Token.Name.Tag", "name"),
    ("Token.Name.Decorator", "name"),
    ("Token.Name.Builtin", "builtin"),
    ("Token.Generic.Deleted", "deleted"),
    ("Token.Generic.Inserted", "inserted"),
    ("Token.Generic.Heading", "keyword"),
)


def highlight(code: Sequence[str], language: str) -> list[Row]:
    """One row of runs for each line of `code`; plain where the language is unknown."""
    lexer = _lexer(language)
    if lexer is None:
        return [((line, ""),) for line in code]
    lines: list[list[Run]] = [[]]
    for token_type, text in lexer.get_tokens("\n".join(code)):
        style = _style(str(token_type))
        head, *tail = text.split("\n")
        if head:
            lines[-1].append((head, style))
        lines.extend([(piece, style)] if piece else [] for piece in tail)
    lines += [[] for _ in range(len(code) - len(lines))]
    return [tuple(line) for line in lines[: len(code)]]


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    if not language:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=512)
def _style(token_name: str) -> str:
    return next((style for prefix, style in _STYLES if token_name.startswith(prefix)), "")
