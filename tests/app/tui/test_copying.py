"""What the mouse copies is what was written, whatever the window did to its rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.tui.markdown.copying import selected_text
from openchat_local.app.tui.markdown.document import Document
from openchat_local.app.tui.markdown.layout import Layout, Section
from openchat_local.app.tui.markdown.sections import prompt_blocks

TEXT = st.text(st.sampled_from("ab  \n,.中文，🎉e\u0301-*`_#>|1$\\["), max_size=80)


def laid_out(section: Section, width: int) -> Layout:
    layout = Layout()
    layout.lay_out(width)
    layout.replace(0, 0, [section])
    return layout


@given(TEXT, st.integers(4, 30))
def test_a_whole_reply_is_copied_as_its_source(source: str, width: int) -> None:
    section = Section("m", Document(source).blocks, source=source)
    layout = laid_out(section, width)
    shows = any(section.rows(number) for number in range(len(section.blocks)))
    spans = dict.fromkeys(range(layout.rows), (0, -1))
    assert selected_text(layout, spans) == (source if shows else "")


@given(TEXT, st.integers(4, 30), st.data())
def test_a_part_of_a_prompt_is_copied_as_it_stands_in_it(
    text: str, width: int, data: st.DataObject
) -> None:
    layout = laid_out(Section("m", prompt_blocks(text)), width)
    first, last = sorted(data.draw(st.integers(0, layout.rows - 1)) for _ in range(2))
    start, end = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 30))
    spans = {row: (start if row == first else 0, end if row == last else -1)
             for row in range(first, last + 1)}  # fmt: skip
    copied = selected_text(layout, spans)
    assert copied in "\n".join(line.rstrip() for line in text.split("\n"))
