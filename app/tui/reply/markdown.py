"""Markdown blocks as lines of styled runs (CommonMark with tables and strikethrough)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, repeat
from typing import TYPE_CHECKING

from openchat_local.app.printable import printable
from openchat_local.app.tui.reply.blocks import Block, CodeBlock, TableBlock, TextBlock
from openchat_local.app.tui.reply.highlight import highlight
from openchat_local.app.tui.reply.rows import Line, Row, Run

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

BULLETS = "•◦▪"
RULE = "─" * 24
_INLINE_STYLES = {"strong": "strong", "em": "em", "s": "strike", "link": "link"}


@lru_cache(maxsize=1)
def parser() -> MarkdownIt:
    """The one parser of replies."""
    from markdown_it import MarkdownIt

    # A reply is read while it grows: a link definition further down must not change what
    # already stands above, so there are none. HTML is shown as it is written.
    return (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table", "strikethrough"])
        .disable(["reference"])
    )


@dataclass(frozen=True, slots=True)
class Item:
    """An item's place in a top-level list: enough to read on from it without those before.

    `marker` is the list's character; `number` is None in a bullet list.
    """

    marker: str
    number: int | None
    gap: bool

    def led_in(self, source: str) -> str:
        """`source`, which begins with this item, after a line that makes it a second item:
        what follows another item is never taken for the header of a table."""
        indent = " " * (len(source) - len(source.lstrip(" ")))
        return f"{indent}{'' if self.number is None else '1'}{self.marker} x\n{source}"


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
    opening = tokens[0]
    number = None if opening.type == "bullet_list_open" else int(opening.attrs.get("start", 1))
    groups = list(_groups(tokens[1:-1], 1))
    if before is not None:
        groups, number = groups[1:], before.number
    for index, group in enumerate(groups):
        start, end = group[0].map or [lead, lead]
        line = start - lead
        gap = index == 0 or not lines[line - 1].strip()
        if index == 0 and before is not None:
            gap = before.gap
        item = Item(opening.markup, None if number is None else number + index, gap)
        block = _item_block(item, "\n".join(lines[line : end - lead]))
        yield Piece(line, block, item if index or before else None)


def _item_block(item: Item, source: str) -> TextBlock:
    opening, *inner = next(_groups(parser().parse(item.led_in(source)), 0))
    _, own = _groups(inner[:-1], 1)
    if item.number is not None:
        opening.attrs["start"] = item.number
    return TextBlock(list(_Lines().walk([opening, *own])), gap=item.gap)


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
        self._markers: list[Iterator[str]] = []
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
                yield from self._lines(_leaf(token))
                self._gap = True

    def _enter(self, kind: str, token: Token) -> None:
        match kind:
            case "blockquote":
                self._containers.append(_Container("│ ", "│ "))
            case "bullet_list":
                self._markers.append(repeat(f"{BULLETS[len(self._markers) % len(BULLETS)]} "))
            case "ordered_list":
                start = int(token.attrs.get("start", 1))
                self._markers.append(f"{number}. " for number in count(start))
            case "list_item":
                marker = next(self._markers[-1])
                self._containers.append(_Container(marker, " " * len(marker)))
            case "heading":
                self._heading = "heading" if token.tag != "h1" else "heading title"

    def _leave(self, kind: str, token: Token) -> None:
        match kind:
            case "blockquote" | "list_item":
                self._containers.pop()
            case "bullet_list" | "ordered_list":
                self._markers.pop()
            case "heading":
                self._heading, self._gap = "", True
            case "paragraph":
                self._gap = not token.hidden

    def _lines(self, rows: Sequence[Row]) -> Iterator[Line]:
        if self._gap:
            rest = "".join(container.rest for container in self._containers)
            yield Line((), rest, rest)
            self._gap = False
        for row in rows:
            first = "".join(container.take() for container in self._containers)
            yield Line(row, first, "".join(container.rest for container in self._containers))


def _leaf(token: Token) -> list[Row]:
    """The rows of a nested code block, or of a rule."""
    if token.type == "hr":
        return [((RULE, "prefix"),)]
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
                targets.append(_shown(str(child.attrs.get("href", ""))))
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
            runs.append((" " if child.type == "softbreak" else "\n", ""))
        else:
            runs.append((_shown(child.content), " ".join(styles)))
    return tuple(runs)


def _shown(text: str) -> str:
    """What the parser made of entities ("&#x202e;") and of percent signs in addresses ("%1b")
    may be the very characters that were taken out of the source."""
    return printable(text).replace("\t", "    ")


def _styled(row: Row, style: str) -> Row:
    return tuple((text, f"{style} {own}".rstrip()) for text, own in row)
