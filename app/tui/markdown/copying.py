"""What is copied of what stands on the screen: the source of what is selected as a whole, and of
a part its own text, without the ends of rows that the window has made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from openchat_local.app.tui.markdown.blocks import Block
from openchat_local.app.tui.markdown.layout import Layout, Section, room
from openchat_local.app.tui.markdown.rows import Row
from openchat_local.app.tui.markdown.search import prefix_length

Span = tuple[int, int]
"""From which character of a row to which, before it; -1 is its end."""


def selected_text(layout: Layout, spans: Mapping[int, Span]) -> str:
    """The text of the selected stretches of rows of a layout."""
    sections: dict[int, dict[int, dict[int, Span]]] = {}
    for row, span in spans.items():
        place = layout.place(row)
        if place.row >= 0:
            section = sections.setdefault(place.section, {})
            section.setdefault(place.block, {})[place.row] = span
    parts = [_of_section(layout.sections[n], blocks) for n, blocks in sections.items()]
    return "\n\n".join(part for part in parts if part)


def _of_section(section: Section, picked: Mapping[int, Mapping[int, Span]]) -> str:
    blocks = section.blocks
    # A block without rows, as an empty quote, can't be selected, so the whole does not wait for it.
    said = [
        number
        for number, block in enumerate(blocks)
        if block.searchable and _rows(block, section.width)
    ]
    chosen = [number for number in picked if number in said] or list(picked)
    wholes = {n for n in chosen if _is_whole(blocks[n], section.width, picked[n])}
    if section.source is not None and said and wholes.issuperset(said):
        return section.source
    text = ""
    for number in chosen:
        block = blocks[number]
        part = block.source if number in wholes else None
        if part is None:
            part = "\n".join(_lines(block, section.width, picked[number]))
        text += ("\n\n" if block.gap else "\n") * bool(text) + part
    return text


def _is_whole(block: Block, width: int, picked: Mapping[int, Span]) -> bool:
    rows = _rows(block, width)
    return len(picked) == len(rows) and all(
        _clamped(block, row, picked[number]) == (0, len(_text(row)))
        for number, row in enumerate(rows)
    )


def _lines(block: Block, width: int, picked: Mapping[int, Span]) -> Iterator[str]:
    """What is selected of each of a block's own lines."""
    rows, texts = _rows(block, width), block.texts()
    if texts is None:
        for number, span in picked.items():
            start, end = _clamped(block, rows[number], span)
            yield _text(rows[number])[start:end].rstrip()
        return
    first = 0
    for text, count in zip(texts, block.paragraphs(room(block, width)), strict=True):
        ends: list[int] = []
        position = 0
        for number in range(first, first + count):
            row = _text(rows[number])
            position = text.find(row, position)  # behind the spaces at which it was broken
            if number in picked:
                start, end = _clamped(block, rows[number], picked[number])
                ends += [position + start, position + end]
            position += len(row)
        if ends:
            yield text[ends[0] : ends[-1]].rstrip()
        first += count


def _clamped(block: Block, row: Row, span: Span) -> Span:
    """The span in characters of the row's text, bars, bullets and marks not counted."""
    before = prefix_length(row) + (1 if block.kind == "code" else 0)
    length = len(_text(row))
    start, end = span
    end = length if end == -1 else max(0, min(length, end - before))
    if end >= len(_text(row).rstrip()):
        end = length
    return min(max(0, start - before), end), end


def _rows(block: Block, width: int) -> Sequence[Row]:
    return block.rows(room(block, width))


def _text(row: Row) -> str:
    text = "".join(text for text, _ in row)
    return text[prefix_length(row) :]
