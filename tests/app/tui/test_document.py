"""A reply grows piece by piece and looks the same however it was cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.app.tui.markdown.blocks import Block
from openchat_local.app.tui.markdown.document import SEGMENT_LIMIT, Document

SAMPLE = """# Title

A paragraph with **bold**, *em*, `code` and a [link](https://example.org).
It goes on | here
--|--
1 | 2

- one
- two
  - nested

* other

1. first

   ```sh
   ls
   ```

> quoted
lazily

~~~text
```
not closed by this
~~~
```python
def f():
    return 1

Setext
===
"""


LIST_LINES = [
    *("- a", " - b", "  - c", "    - d", "   - e | f", "--|--", "* g", "-", "---", "- - h"),
    *("1. i", "1) j", "7. k", "   l", "", "text", "> q", "```", "  n | o", "  -|-", "- [ ] p"),
]


def shown(blocks: list[Block], width: int = 40) -> list[str]:
    rows: list[str] = []
    for block in blocks:
        rows += [""] * block.gap
        rows += ["".join(text for text, _ in row).rstrip() for row in block.rows(width)]
    return rows


def styles_of(source: str) -> dict[str, str]:
    block_rows = (row for block in Document(source).blocks for row in block.rows(60))
    return {text: names for row in block_rows for text, names in row}


@given(st.lists(st.integers(0, len(SAMPLE)), max_size=30))
def test_a_reply_does_not_depend_on_how_it_was_cut(cuts: list[int]) -> None:
    document = Document()
    edges = [0, *sorted(cuts), len(SAMPLE)]
    for start, end in pairwise(edges):
        document.append(SAMPLE[start:end])
    assert shown(document.blocks) == shown(Document(SAMPLE).blocks)


TABLE_LINES = st.sampled_from([
    "| a | b |", "|---|--:|", "| **x** | `|` |", "a | b \\| c | d", "|", "", "  ", "text", "- x",
    "> q", "# h", "    code", "| 東京 |", "---", "===", "```", "1. | x |",
])  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(TABLE_LINES, max_size=8), st.integers(1, 9))
def test_a_table_in_any_pieces_gives_the_same_rows(lines: list[str], size: int) -> None:
    text = "\n".join(["| head | er |", "|---|--:|", *lines])
    document = Document()
    for start in range(0, len(text), size):
        document.append(text[start : start + size])
        assert shown(document.blocks) == shown(Document(text[: start + size]).blocks)


@given(st.text(st.sampled_from("`~*_-#>|1. \n\tab[]()"), max_size=60), st.integers(1, 5))
def test_any_text_in_any_pieces_gives_the_same_rows(text: str, size: int) -> None:
    document = Document()
    for start in range(0, len(text), size):
        document.append(text[start : start + size])
    assert shown(document.blocks) == shown(Document(text).blocks)


@given(st.text(max_size=200), st.integers(8, 60))
def test_heights_are_those_of_the_rows(text: str, width: int) -> None:
    for block in Document(text).blocks:
        assert block.height(width) == len(block.rows(width))


def test_only_the_end_of_a_long_code_block_is_made_again() -> None:
    document = Document("```python\n")
    for number in range(5000):
        changed = document.append(f"value_{number} = {number}\n")
        assert changed >= len(document.blocks) - 2
    assert sum(block.height(80) for block in document.blocks) == 5000
    assert all(block.height(80) <= SEGMENT_LIMIT for block in document.blocks)


def test_a_closing_fence_at_the_very_end_is_not_code() -> None:
    document = Document("```\ncode\n")
    for _ in range(3):
        document.append("`")
        assert shown(document.blocks) == ["", "code"]


def test_finished_paragraphs_are_never_made_again() -> None:
    document = Document("One.\n\nTwo.\n\nThree")
    first = document.blocks[0]
    document.append(" and more")
    assert document.blocks[0] is first
    assert shown(document.blocks) == ["", "One.", "", "Two.", "", "Three and more"]


def test_finished_items_of_a_list_are_never_made_again() -> None:
    document = Document("Some advice:\n\n1. one\n")
    for number in range(500):
        changed = document.append(f"1. item {number}\n{chr(10) * (number % 2)}")
        assert changed >= len(document.blocks) - 2
    assert shown(document.blocks)[-2:] == ["500. item 498", "501. item 499"]


@given(st.lists(st.sampled_from(LIST_LINES), max_size=8), st.integers(1, 9))
def test_a_list_does_not_depend_on_how_it_was_cut(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    document = Document()
    for start in range(0, len(text), size):
        document.append(text[start : start + size])
    assert shown(document.blocks) == shown(Document(text).blocks)


def test_lists_are_indented_and_numbered_on() -> None:
    rows = shown(Document("3. three\n4. four\n   - a long nested item that wraps\n").blocks, 24)
    assert rows == ["", "3. three", "4. four", "   ◦ a long nested item", "     that wraps"]


def test_a_table_shrinks_until_it_fits() -> None:
    source = "a | b\n--|--\none | a cell with many words in it\n"
    rows = shown(Document(source).blocks, 20)
    assert rows == [
        "",
        "a    b",
        "─" * 20,
        "one  a cell with",
        "     many words in",
        "     it",
    ]


def test_a_column_of_figures_is_aligned_to_the_right() -> None:
    rows = shown(Document("a | n\n--|--:\none | 5\ntwo | 120\n").blocks, 20)
    assert rows == ["", "a      n", "─" * 8, "one    5", "two  120"]


def test_a_link_shows_where_it_leads() -> None:
    assert shown(Document("[safe](https://evil.example)").blocks) == [
        "",
        "safe (https://evil.example)",
    ]


def test_html_is_shown_as_it_is_written() -> None:
    assert shown(Document("<b>hi</b> &amp; <!-- x -->").blocks) == ["", "<b>hi</b> & <!-- x -->"]


def test_code_is_coloured_in_its_language() -> None:
    styles = styles_of('```python\ndef f():\n    return "x"  # why\n```\n')
    assert styles["def"] == "keyword"
    assert styles['"x"'.strip('"')] == "string"
    assert styles["# why"] == "comment"


def test_code_in_an_unknown_language_is_plain() -> None:
    assert styles_of("```nosuchlanguage\nlet x\n```\n") == {"let x": ""}
