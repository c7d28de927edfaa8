"""The prompt's text area: nothing of the text is lost, changed, or obeyed by the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from openchat_local.app.tui.widgets.plain_area import LONG_LINE, PlainDocument, PlainWrap
from support.window import OpenWindow

ODD = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g\x1b[31mh\x9b2Ji\u202ej\x7fk\x00l"


@given(st.text(), st.text(), st.integers(0, 9), st.integers(0, 9))
def test_only_a_newline_ends_a_line(text: str, more: str, start: int, end: int) -> None:
    document = PlainDocument(text)
    assert (document.text, document.line_count) == (text, text.count("\n") + 1)
    begin, stop = sorted((min(start, len(text)), min(end, len(text))))
    where = document.get_location_from_index
    document.replace_range(where(begin), where(stop), more)
    assert document.text == text[:begin] + more + text[stop:]


@given(
    st.text("ab \t漢\x1bé", min_size=1, max_size=40),
    st.integers(2, 40),
    st.lists(st.tuples(st.integers(0, 200), st.text("x\n漢 \x1b", max_size=6)), max_size=4),
)
def test_rows_are_the_line_and_none_is_wider_than_the_screen(
    unit: str, width: int, edits: list[tuple[int, str]]
) -> None:
    document = PlainDocument(f"short\n{unit * (LONG_LINE // len(unit) + 9)}\nlast\x1b[1m")
    wrapped = PlainWrap(document)
    wrapped.wrap(width, 4)
    for place, text in edits:
        location = document.get_location_from_index(min(place, len(document.text)))
        result = document.replace_range(location, location, text)
        wrapped.wrap_range(location, location, result.end_location)
    afresh = PlainWrap(document)
    afresh.wrap(width, 4)
    assert wrapped._offset_to_line_info == afresh._offset_to_line_info
    assert wrapped._line_index_to_offsets == afresh._line_index_to_offsets
    assert wrapped.height == len(wrapped._offset_to_line_info)
    for number, line in enumerate(document.lines):
        sections = wrapped.get_sections(number)
        assert len("".join(sections)) == len(line)
        if len(line) > LONG_LINE:
            assert max(cell_len(row) + 3 * row.count("\t") for row in sections) <= max(width, 4)


@pytest.mark.parametrize(
    "text", [ODD, ODD + "x" * LONG_LINE, "漢\t" * LONG_LINE], ids=["short", "long", "wide"]
)
async def test_every_character_is_kept_and_none_steers_the_terminal(
    open_window: OpenWindow, text: str
) -> None:
    async with open_window() as window:
        prompt = window.pane.prompt
        prompt.insert(text)
        prompt.move_cursor((0, 0))
        await window.pilot.press("b", "left", "right", "up", "down", "end", "home")
        prompt.move_cursor((0, 0))
        prompt.move_cursor((0, 9), select=True)
        await window.pilot.pause()
        same = prompt.text == f"b{text}"
        assert same
        rows = [prompt.render_line(y) for y in range(prompt.size.height)]
        assert all(row.cell_length <= prompt.size.width for row in rows)
        shown = "".join(row.text.rstrip() for row in rows)
        assert shown.isprintable()
        assert "\x1b" not in text or "␛[31mh" in shown
        prompt.put("")
