"""Markdown blocks as lines of styled runs (CommonMark with tables and strikethrough)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from openchat_local.app.printable import printable
from openchat_local.app.tui.markdown.blocks import Block, CodeBlock, TableBlock, TextBlock
from openchat_local.app.tui.markdown.highlight import highlight
from openchat_local.app.tui.markdown.rows import Line, Row, Run

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

BULLETS = "•◦▪"
RULE = "─" * 24
_INLINE_STYLES = {"strong": "strong", "em": "em", "s": "strike", "link": "link"}


@lru_cache(maxsize=1)
def parser() -> MarkdownIt:
    """The one parser of replies."""
    from openchat_local.app.tui.markdown.as_written import ReplyMarkdown

    return ReplyMarkdown()


@dataclass(frozen=True, slots=True)
class Item:
    """An item's place in a top-level list: enough to read on from it without those before.

    `marker` is the list's character; `number` is how it is shown and `written` how it was
    written, both "" in a bullet list.
    """

    marker: str
    number: str
    written: str
    gap: bool

    def led_in(self, source: str) -> str:
        """`source`, which begins with this item, after a line that makes it a second item:
        what follows another item is never taken for the header of a table."""
        indent = " " * (len(source) - len(source.lstrip(" ")))
        return f"{indent}{'1' if self.number else ''}{self.marker} x\n{source}"


@dataclass(frozen=True, slots=True)
class Piece:
    """A top-level block, or an item of a top-level list; `line` is the one it starts on.

    A list's first item has no `item`: the line after it may still make a table of it.
    """

    line: int
    block: Block
    item: Item | None = None


def parse(source: str, item: Item | None = None) -> list[Piece]:
    """The pieces of `source`. `item` is the one it begins with, if that is not the first of
    its list."""
    tokens = parser().parse(item.led_in(source) if item else source)
    lead = 1 if item else 0
    lines = source.split("\n")
    pieces: list[Piece] = []
    for group in _groups(tokens, 0):
        first = group[0]
        if first.type in ("bullet_list_open", "ordered_list_open"):
            pieces += _items(group, lines, lead, None if pieces else item)
        else:
            line = first.map[0] - lead if first.map else 0
            pieces.append(Piece(line, _block(group)))
    ends = [*(piece.line for piece in pieces[1:]), len(lines)]
    for piece, end in zip(pieces, ends, strict=False):
        if not isinstance(piece.block, CodeBlock):
            piece.block.source = "\n".join(lines[piece.line : end]).strip("\n")
    return pieces


def _groups(tokens: Sequence[Token], level: int) -> Iterator[list[Token]]:
    """The tokens of each block at a level of nesting."""
    group: list[Token] = []
    for token in tokens:
        group.append(token)
        if token.level == level and token.nesting <= 0:
            yield group
            group = []


def _items(
    tokens: Sequence[Token], lines: Sequence[str], lead: int, before: Item | None
) -> Iterator[Piece]:
    """The items of a list, each made from its own lines alone: what is settled does not
    change when a later blank line makes the list a loose one."""
    groups = list(_groups(tokens[1:-1], 1))
    numbering = _Numbering()
    if before is not None:
        groups = groups[1:]
    for index, group in enumerate(groups):
        start, end = group[0].map or [lead, lead]
        line = start - lead
        gap = index == 0 or not lines[line - 1].strip()
        number = numbering.of(group[0].info)
        if index == 0 and before is not None:
            gap, number = before.gap, before.number
            numbering = _Numbering(before.written, before.number)
        item = Item(tokens[0].markup, number, group[0].info, gap)
        block = _item_block(item, "\n".join(lines[line : end - lead]))
        yield Piece(line, block, item if index or before else None)


def _item_block(item: Item, source: str) -> TextBlock:
    opening, *inner = next(_groups(parser().parse(item.led_in(source)), 0))
    _, own = _groups(inner[:-1], 1)
    own[0].info = item.number
    return TextBlock(list(_Lines().walk([opening, *own])), gap=item.gap)


@dataclass(slots=True)
class _Numbering:
    """The numbers of a list as they are written: "3. 7. 9." may be answers to questions. Only
    where each is the same as the one before, "1. 1. 1.", they are counted."""

    written: str = ""
    shown: str = ""

    def of(self, written: str) -> str:
        """The number of the next item; "" in a bullet list."""
        same = bool(written) and written == self.written
        self.shown = str(int(self.shown) + 1) if same else written
        self.written = written
        return self.shown


def _block(tokens: Sequence[Token]) -> Block:
    first = tokens[0]
    if first.type in ("fence", "code_block"):
        code = first.content.removesuffix("\n").expandtabs(4).split("\n")
        return CodeBlock(code, first.info.strip().split(" ")[0], gap=True)
    if first.type == "table_open":
        return TableBlock(_table(tokens), _right_aligned(tokens))
    return TextBlock(list(_Lines().walk(tokens)))


def _table(tokens: Sequence[Token]) -> list[list[Row]]:
    rows: list[list[Row]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(inline(token, "strong" if len(rows) == 1 else ""))
    return rows


def _right_aligned(tokens: Sequence[Token]) -> frozenset[int]:
    """The numbers of the columns whose header asks for it ("--:")."""
    headers = [token for token in tokens if token.type == "th_open"]
    return frozenset(
        number
        for number, header in enumerate(headers)
        if "text-align:right" in str(header.attrs.get("style", ""))
    )


@dataclass(slots=True)
class _Container:
    """A quotation or list item around the current line."""

    marker: str
    rest: str

    def take(self) -> str:
        marker, self.marker = self.marker, self.rest
        return marker


class _Lines:
    """Walks the tokens of one block and yields its lines with their prefixes."""

    def __init__(self) -> None:
        self._containers: list[_Container] = []
        self._lists: list[_Numbering] = []
        self._heading = ""
        self._gap = False

    def walk(self, tokens: Sequence[Token]) -> Iterator[Line]:
        for token in tokens:
            kind, _, edge = token.type.rpartition("_")
            if edge == "open":
                self._enter(kind, token)
            elif edge == "close":
                self._leave(kind, token)
            elif token.type == "inline":
                yield from self._lines([inline(token, self._heading)])
            else:
                yield from self._lines(_leaf(token), code=token.type in ("fence", "code_block"))
                self._gap = True

    def _enter(self, kind: str, token: Token) -> None:
        match kind:
            case "blockquote":
                self._containers.append(_Container("│ ", "│ "))
            case "bullet_list" | "ordered_list":
                self._lists.append(_Numbering())
            case "list_item":
                number = self._lists[-1].of(token.info)
                bullet = BULLETS[(len(self._lists) - 1) % len(BULLETS)]
                marker = f"{number}{token.markup} " if number else f"{bullet} "
                self._containers.append(_Container(marker, " " * len(marker)))
            case "heading":
                self._heading = "heading" if token.tag != "h1" else "heading title"

    def _leave(self, kind: str, token: Token) -> None:
        match kind:
            case "blockquote" | "list_item":
                self._containers.pop()
            case "bullet_list" | "ordered_list":
                self._lists.pop()
            case "heading":
                self._heading, self._gap = "", True
            case "paragraph":
                self._gap = not token.hidden

    def _lines(self, rows: Sequence[Row], *, code: bool = False) -> Iterator[Line]:
        if self._gap:
            rest = "".join(container.rest for container in self._containers)
            yield Line((), rest, rest)
            self._gap = False
        for row in rows:
            first = "".join(container.take() for container in self._containers)
            rest = "".join(container.rest for container in self._containers)
            yield Line(row, first, rest, code)


def _leaf(token: Token) -> list[Row]:
    """The rows of a nested code block, of a formula, or of a rule."""
    if token.type == "hr":
        return [((RULE, "prefix"),)]
    if token.type == "maths":
        return [((line, ""),) for line in _shown(token.content).split("\n")]
    code = token.content.removesuffix("\n").expandtabs(4).split("\n")
    language = token.info.strip().split(" ")[0]
    return [_styled(row, "code") for row in highlight(code, language)]


def inline(token: Token, style: str = "") -> Row:
    """The styled runs of an inline token. A link's address stands behind its text: what a
    link leads to is never hidden."""
    styles = [style] if style else []
    runs: list[Run] = []
    targets: list[str] = []
    for child in token.children or ():
        kind, _, edge = child.type.rpartition("_")
        if edge == "open":
            styles.append(_INLINE_STYLES.get(kind, ""))
            if kind == "link":
                title = child.attrs.get("title")
                href = _shown(str(child.attrs.get("href", "")))
                targets.append(f'{href} "{_shown(str(title))}"' if title else href)
        elif edge == "close" and kind in _INLINE_STYLES:
            styles.pop()
            if kind == "link" and (target := targets.pop()) != (runs[-1][0] if runs else ""):
                runs.append((f" ({target})", "dim"))
        elif child.type == "code_inline":
            runs.append((_shown(child.content), " ".join([*styles, "inline-code"])))
        elif child.type == "image":
            source = _shown(str(child.attrs.get("src", "")))
            runs.append((f"[{_shown(child.content)}] ({source})", "dim"))
        elif child.type in ("softbreak", "hardbreak"):
            runs.append(("\n", ""))
        else:
            runs.append((_shown(child.content), " ".join(styles)))
    return tuple(runs)


def _shown(text: str) -> str:
    """What the parser made of entities ("&#x202e;") and of percent signs in addresses ("%1b")
    may be the very characters that were taken out of the source."""
    return printable(text).replace("\t", "    ")


def _styled(row: Row, style: str) -> Row:
    return tuple((text, f"{style} {own}".rstrip()) for text, own in row)
