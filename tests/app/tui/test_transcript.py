"""The transcript follows a reply, but never a reader who has scrolled away; it lays out no more
than what is near the reader."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.selection import Selection

from openchat_local.app.chats import StoredMessage
from openchat_local.app.replies.attachments import Attachment, block
from openchat_local.app.tui.markdown.blocks import CodeBlock, TextBlock
from openchat_local.app.tui.markdown.branch_layout import MOST_LAID_OUT, OUTSIDE, PAGE
from openchat_local.app.tui.markdown.layout import Section
from openchat_local.app.tui.markdown.rows import Line
from openchat_local.app.tui.markdown.search import Finder
from openchat_local.app.tui.markdown.sections import message_section
from openchat_local.app.tui.widgets.transcript import Transcript
from support.turns import alternating, prompts, reply_to, turn


class Host(App[None]):
    def compose(self) -> ComposeResult:
        yield Transcript()


@asynccontextmanager
async def showing(
    turns: Sequence[StoredMessage], size: tuple[int, int] = (60, 20)
) -> AsyncIterator[tuple[Transcript, Pilot[None]]]:
    app = Host()
    async with app.run_test(size=size) as pilot:
        transcript = app.query_one(Transcript)
        transcript.show_turns(turns)
        await pilot.pause()
        yield transcript, pilot


def rows(transcript: Transcript) -> list[str]:
    height = transcript.size.height
    return [transcript.render_line(y).text.strip(" ▌┃") for y in range(height)]


class Widths(TextBlock):
    """A block that notes the widths it is laid out at."""

    def __init__(self) -> None:
        super().__init__([Line((("word " * 50, ""),))])
        self.asked: list[int] = []

    def height(self, width: int) -> int:
        self.asked.append(width)
        return super().height(width)


async def test_nothing_is_laid_out_before_the_width_is_known() -> None:
    block = Widths()

    class Early(App[None]):
        def compose(self) -> ComposeResult:
            transcript = Transcript()
            transcript.show_blocks([block])
            yield transcript

    async with Early().run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert block.asked == [60 - 1 - 4]


# The end, and readers who are elsewhere


async def test_a_growing_reply_stays_in_view() -> None:
    turns = prompts(30)
    async with showing(turns) as (transcript, pilot):
        transcript.begin_reply(reply_to(turns))
        for number in range(50):
            transcript.grow_reply(f"reply {number}\n\n")
        await pilot.pause()
        assert "reply 49" in rows(transcript)


async def test_a_reader_who_scrolled_up_is_left_alone_and_costs_nothing() -> None:
    turns = prompts(30)
    async with showing(turns) as (transcript, pilot):
        transcript.begin_reply(reply_to(turns))
        transcript.grow_reply("Now")
        transcript.page(-1)
        transcript.page(-1)
        transcript.page(-1)
        await pilot.pause()
        before, height = rows(transcript), transcript.laid_out.rows
        for number in range(50):
            transcript.grow_reply(f"\n\nreply {number}")
        await pilot.pause()
        assert rows(transcript) == before
        assert transcript.laid_out.rows == height, "rows were made that nobody sees"
        transcript.page(1)
        transcript.page(1)
        await pilot.pause()
        assert transcript.laid_out.rows > height, "what is near is laid out"
        transcript.action_last()
        await pilot.pause()
        assert "reply 49" in rows(transcript)


async def test_the_end_of_a_reply_does_not_move_a_reader_either() -> None:
    turns = prompts(30)
    async with showing(turns) as (transcript, pilot):
        transcript.begin_reply(reply_to(turns))
        transcript.grow_reply("Now ")
        transcript.page(-1)
        await pilot.pause()
        before = rows(transcript)
        transcript.end_reply(reply_to(turns, "Now ", instance=None, finish_reason="cancelled"))
        await pilot.pause()
        assert rows(transcript) == before
        transcript.action_last()
        await pilot.pause()
        assert "— cancelled —" in rows(transcript)


async def test_coming_back_to_the_end_follows_again() -> None:
    turns = prompts(30)
    async with showing(turns) as (transcript, pilot):
        transcript.begin_reply(reply_to(turns))
        transcript.page(-1)
        await pilot.pause()
        transcript.page(1)
        await pilot.pause()
        transcript.grow_reply("\n\n".join(f"reply {number}" for number in range(50)))
        await pilot.pause()
        assert "reply 49" in rows(transcript)


@pytest.mark.parametrize("size", [(20, 10), (30, 40), (150, 8)])
async def test_a_resize_in_mid_reply_keeps_the_end_in_view(size: tuple[int, int]) -> None:
    turns = prompts(10)
    async with showing(turns) as (transcript, pilot):
        transcript.begin_reply(reply_to(turns))
        transcript.grow_reply("word " * 100 + "\n\n")
        await pilot.resize_terminal(*size)
        await pilot.pause()
        transcript.grow_reply("the last words")
        await pilot.pause()
        assert "the last words" in rows(transcript)
        assert all(len(row) <= size[0] for row in rows(transcript))


async def test_a_resize_keeps_the_place_of_a_reader() -> None:
    async with showing(prompts(60)) as (transcript, pilot):
        transcript.scroll_to(y=20, animate=False)
        await pilot.pause()
        top = next(row for row in rows(transcript) if row)
        await pilot.resize_terminal(30, 20)
        await pilot.pause()
        assert top in rows(transcript)[:3]


# A window over a long chat


async def test_scrolling_up_reaches_the_first_message_and_down_again_the_last() -> None:
    async with showing(prompts(400)) as (transcript, pilot):
        assert len(transcript.laid_out.sections) <= PAGE * 2
        for _ in range(300):
            transcript.page(-1)
            await pilot.pause()
            if "line 0" in rows(transcript):
                break
        assert "line 0" in rows(transcript)
        assert len(transcript.laid_out.sections) <= MOST_LAID_OUT
        seen: list[str] = []
        for _ in range(300):
            seen += (row for row in rows(transcript) if row and row not in seen[-40:])
            if seen[-1] == "line 399":
                break
            transcript.page(1)
            await pilot.pause()
        assert seen == [f"line {number}" for number in range(400)], "a page was skipped"
        assert len(transcript.laid_out.sections) <= MOST_LAID_OUT


async def test_the_keys_for_both_ends_jump() -> None:
    async with showing(prompts(2000)) as (transcript, pilot):
        transcript.focus()
        await pilot.press("home")
        assert "line 0" in rows(transcript)
        await pilot.press("end")
        assert "line 1999" in rows(transcript)
        assert len(transcript.laid_out.sections) <= MOST_LAID_OUT


async def test_any_message_can_be_revealed() -> None:
    async with showing(prompts(2000)) as (transcript, pilot):
        assert transcript.reveal("m777")
        await pilot.pause()
        assert "line 777" in rows(transcript)
        assert not transcript.reveal("m5000")


async def test_reading_down_a_long_chat_reaches_the_reply_without_a_leap() -> None:
    turns = prompts(300)
    async with showing(turns) as (transcript, pilot):
        transcript.begin_reply(reply_to(turns))
        transcript.grow_reply("the reply begins\n\n")
        transcript.action_first()
        await pilot.pause()
        seen: list[str] = []
        for number in range(200):
            transcript.grow_reply(f"paragraph {number}\n\n")
            seen += (row for row in rows(transcript) if row and row not in seen[-40:])
            if "paragraph 5" in seen:
                break
            # As far as there is anything, at once: to where a page ends.
            transcript.scroll_to(y=transcript.scroll_offset.y + 18, animate=False)
            await pilot.pause()
        at = seen.index("the reply begins")
        assert seen[: at + 1] == [*(f"line {number}" for number in range(300)), "the reply begins"]
        assert seen[at + 1 : at + 4] == ["paragraph 0", "paragraph 1", "paragraph 2"]


async def test_a_reply_that_begins_while_the_reader_is_elsewhere_is_shown() -> None:
    turns = prompts(200)
    async with showing(turns) as (transcript, pilot):
        transcript.action_first()
        await pilot.pause()
        transcript.begin_reply(reply_to(turns))
        transcript.grow_reply("Here it is.")
        await pilot.pause()
        assert "Here it is." in rows(transcript)


async def test_a_new_version_takes_the_place_of_what_came_after() -> None:
    turns = alternating(["one", "first answer", "two", "second answer"])
    async with showing(turns) as (transcript, pilot):
        transcript.begin_reply(
            turn(9, "assistant", "", parent_id="m0", instance="here", sibling=2, siblings=2)
        )
        transcript.grow_reply("another answer")
        transcript.end_reply(
            turn(9, "assistant", "another answer", parent_id="m0", sibling=2, siblings=2)
        )
        await pilot.pause()
        assert [row for row in rows(transcript) if row] == ["one", "another answer", "‹ 2/2 ›"]


# What the model does not see


async def test_what_the_model_does_not_see_is_grey_and_a_line_says_so() -> None:
    async with showing(prompts(8)) as (transcript, pilot):
        plain = transcript.render_line(1)
        for outside in (4, 2, 6):
            transcript.set_outside(outside)
            await pilot.pause()
            shown = [row for row in rows(transcript) if row]
            at = next(n for n, row in enumerate(shown) if OUTSIDE.startswith(row[:20]))
            assert shown[at - 1] == f"line {outside - 1}"
            assert f"line {outside}" in shown[at + 1 :][:2]
        grey = transcript.render_line(1)
        assert grey.text == plain.text
        assert list(grey) != list(plain)
        transcript.set_outside(0)
        await pilot.pause()
        assert list(transcript.render_line(1)) == list(plain)
        assert not any(OUTSIDE.startswith(row[:20]) for row in rows(transcript) if row)


async def test_the_line_survives_pages_that_come_and_go() -> None:
    async with showing(prompts(400)) as (transcript, pilot):
        transcript.set_outside(300)
        transcript.reveal("m300")
        await pilot.pause()
        for key in ("home", "end"):
            transcript.focus()
            await pilot.press(key)
        for _ in range(30):
            transcript.page(-1)
            await pilot.pause()
            if "line 300" in rows(transcript)[4:]:
                break
        shown = [row for row in rows(transcript) if row]
        line = shown.index("line 300") - 2
        assert shown[line - 1 : line + 1] == ["line 299", shown[line]]
        assert OUTSIDE.startswith(shown[line])


# The cursor


async def test_keys_select_a_message_and_go_through_one_that_is_higher_than_the_screen() -> None:
    long = "\n\n".join(f"paragraph {number}" for number in range(40))
    async with showing(alternating(["one", long, "two"])) as (transcript, pilot):
        transcript.focus()
        await pilot.press("up")
        assert transcript.selected_key == "m2"
        await pilot.press("up")
        assert transcript.selected_key == "m1"
        assert "┃" in transcript.render_line(3).text
        for _ in range(40):
            await pilot.press("up")
            if transcript.selected_key == "m0":
                break
        assert transcript.selected_key == "m0"
        assert "one" in rows(transcript)
        await pilot.press("up")
        assert transcript.selected_key == "m0"


async def test_a_click_selects_a_message_and_another_one_lets_go() -> None:
    async with showing(alternating(["one", "an answer"])) as (transcript, pilot):
        await pilot.click(Transcript, offset=(5, 3))
        assert transcript.selected_key == "m1"
        await pilot.click(Transcript, offset=(5, 1), times=1)
        assert transcript.selected_key == "m0"
        await pilot.click(Transcript, offset=(5, 1))
        assert transcript.selected_key is None


async def test_a_click_on_an_arrow_asks_for_the_other_version() -> None:
    asked: list[str] = []

    class Asking(Host):
        def on_transcript_asked(self, message: Transcript.Asked) -> None:
            assert message.message is not None
            asked.append(f"{message.action} of {message.message.id}")

    app = Asking()
    async with app.run_test(size=(60, 20)) as pilot:
        turns = [turn(0, "user", "one"), turn(1, "assistant", "two", sibling=2, siblings=3)]
        app.query_one(Transcript).show_turns(turns)
        await pilot.pause()
        line = next(y for y, row in enumerate(rows(app.query_one(Transcript))) if "2/3" in row)
        await pilot.click(Transcript, offset=(2, line))
        await pilot.click(Transcript, offset=(8, line))
    assert asked == ["previous of m1", "next of m1"]


# Files that went along with a prompt

FILE = "one\n\tsea ``` it\n" * 10


def with_files() -> list[StoredMessage]:
    names = ("notes.txt", "a [b].md")
    blocks = [block(Attachment(name, FILE, Path(name).suffix)) for name in names]
    return [
        turn(0, "user", "\n\n".join(["Sum up @notes.txt", *blocks])),
        turn(1, "assistant", "Blue."),
    ]


async def test_a_file_is_a_line_that_a_key_opens_and_folds() -> None:
    async with showing(with_files(), size=(80, 40)) as (transcript, pilot):
        folded = rows(transcript)[:6]
        assert folded[1:5] == [
            "Sum up @notes.txt",
            "▸ notes.txt  20 lines, 159 characters · o opens it",
            "▸ a [b].md  20 lines, 159 characters · o opens it",
            "",
        ]
        transcript.select("m0")
        transcript.focus()
        await pilot.pause()
        await pilot.press("o")
        assert rows(transcript)[2:5] == [
            "▾ notes.txt  20 lines, 159 characters · o folds it",
            "one",
            "sea ``` it",
        ]
        await pilot.press("o")
        assert rows(transcript)[:6] == folded
        await pilot.click(Transcript, offset=(6, 3))
        assert "one" in rows(transcript)
        assert transcript.selected_key == "m0"
        transcript.select("m1")
        await pilot.press("o")  # has none: nothing happens
        assert "one" in rows(transcript)


async def test_what_is_found_in_a_file_is_opened() -> None:
    async with showing(with_files(), size=(80, 40)) as (transcript, _):
        finder = transcript.finder = Finder("sea")
        section = message_section(transcript.turns[0], unfolded=True)
        section.lay_out(transcript.laid_out.width)
        assert len(finder.hits(section, section.width)) == 20
        finder.point_at("m0", 19)
        transcript.reveal_hit("m0", 19)
        assert "sea ``` it" in rows(transcript)


# Selection with the mouse


async def test_a_selection_is_the_text_without_margins() -> None:
    async with showing(()) as (transcript, _):
        transcript.show_text("first line\nsecond line")
        start, end = Offset(2 + 6, 1), Offset(2 + 6, 2)
        assert transcript.get_selection(Selection.from_offsets(start, end)) == (
            "line\nsecond",
            "\n",
        )


COPIED = """\
A **bold** word, and so many others that they take several rows of this screen.
Second line.

- one
- two

```python
def read(path: str) -> str:
    return open(path, encoding="utf-8", errors="replace").read().strip().splitlines()[0]
```

| a | b |
|---|---|
| 1 | 2 |

Last.
"""


def copy_of(transcript: Transcript, begin: str, end: str) -> str:
    """What is copied from the beginning of one text on the screen to the end of another."""
    lines = [transcript.render_line(y).text for y in range(transcript.size.height)]
    top = next(y for y, line in enumerate(lines) if begin in line)
    bottom = next(y for y, line in enumerate(lines) if end in line)
    start = Offset(lines[top].index(begin), top)
    stop = Offset(lines[bottom].index(end) + len(end), bottom)
    found = transcript.get_selection(Selection.from_offsets(start, stop))
    assert found is not None
    return found[0]


async def test_what_is_copied_is_the_source_and_no_row_of_it_is_broken() -> None:
    prompt = "A prompt that is so long that this narrow window takes two rows for it."
    turns = [
        turn(0, "user", prompt),
        turn(1, "assistant", COPIED, siblings=2),
        turn(2, "user", "next"),
    ]
    async with showing(turns, size=(60, 40)) as (transcript, _):
        assert copy_of(transcript, "A prompt", "for it.") == prompt
        assert copy_of(transcript, "prompt that", "takes") == prompt[2 : prompt.index(" two")]
        assert copy_of(transcript, "A bold", "Last.") == COPIED
        assert copy_of(transcript, "A bold", "Second line.") == COPIED.partition("\n\n")[0]
        assert copy_of(transcript, "• one", "• two") == "- one\n- two"
        code = COPIED.split("```")[1].removeprefix("python\n").removesuffix("\n")
        assert copy_of(transcript, "def read", "[0]") == code
        assert (
            copy_of(transcript, "return", "strip()")
            == "return" + (code.split("return")[1].split(".splitlines")[0])
        )
        assert copy_of(transcript, "a  b", "1  2") == "| a | b |\n|---|---|\n| 1 | 2 |"
        assert copy_of(transcript, "• two", "def read") == "- two\n\ndef read"
        assert copy_of(transcript, "Last.", "1/2 ›") == "Last."


async def test_what_is_selected_is_highlighted() -> None:
    async with showing(()) as (transcript, pilot):
        transcript.show_text("some words")
        await pilot.pause()
        plain = list(transcript.render_line(1))
        transcript.screen.selections = {
            transcript: Selection.from_offsets(Offset(2, 1), Offset(6, 1))
        }
        await pilot.pause()
        marked = list(transcript.render_line(1))
        assert "".join(segment.text for segment in marked).strip() == "some words"
        wanted = transcript.screen.get_component_rich_style("screen--selection").bgcolor
        assert wanted is not None
        some = [segment for segment in marked if segment.style and segment.style.bgcolor == wanted]
        assert "".join(segment.text for segment in some) == "some"
        assert not any(segment.style and segment.style.bgcolor == wanted for segment in plain)


async def test_dragging_the_mouse_selects_text_and_no_message() -> None:
    async with showing(alternating(["one", "全部 some words"])) as (transcript, pilot):
        await pilot.mouse_down(Transcript, offset=(2, 3))
        await pilot.hover(Transcript, offset=(11, 3))
        await pilot.mouse_up(Transcript, offset=(11, 3))
        await pilot.pause()
        assert transcript.screen.get_selected_text() == "全部 some"
        assert transcript.selected_key is None


# Hits


def test_words_are_found_across_the_ends_of_rows_but_not_of_lines() -> None:
    text = TextBlock([Line((("one two three four", ""),)), Line((("five", ""),))])
    section = Section("m", [text])
    section.lay_out(9)  # one two / three / four / five

    def found(words: str) -> list[tuple[tuple[int, int, int], ...]]:
        return [hit.rows for hit in Finder(words).hits(section, 9)]

    assert found("TWO THREE") == [((0, 4, 7), (1, 0, 5))]
    assert found("four five") == []
    assert found("o") == [((0, 0, 1),), ((0, 6, 7),), ((2, 1, 2),)]


def test_words_are_found_behind_the_mark_of_folded_code_and_not_across_a_line_s_end() -> None:
    code = CodeBlock(["x = compute(alpha, beta)"], "", gap=True)
    verse = TextBlock([Line((("an end\nless sea", ""),))])
    section = Section("m", [code, verse])
    section.lay_out(24)  # " x = compute(alpha, " and "   ↪ beta)"

    def found(words: str) -> list[tuple[tuple[int, int, int], ...]]:
        return [hit.rows for hit in Finder(words).hits(section, 24)]

    assert found("alpha, beta") == [((0, 13, 20), (1, 5, 9))]
    assert found("endless") == []
    assert found("less") == [((1, 0, 4),)]


@pytest.mark.parametrize(
    ("source", "words"), [("**bo**ld text", "bold text"), ("a & b", "&"), ("x &amp; y", "& y")]
)
def test_markdown_between_letters_hides_nothing_from_a_search(source: str, words: str) -> None:
    assert Finder(words).may_be_in(source)
    assert not Finder("absent").may_be_in(source) or "&" in source


def test_nothing_is_found_in_the_words_of_the_program() -> None:
    usage = {"generated_tokens": 5, "decode_seconds": 1.0}
    section = message_section(turn(1, "assistant", "Five tokens.", usage=usage))
    section.lay_out(60)
    assert len(section.blocks) == 2
    assert len(Finder("tokens").hits(section, 60)) == 1
