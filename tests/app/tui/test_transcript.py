"""The transcript follows a reply, but never a reader who has scrolled away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.selection import Selection

from openchat_local.app.tui.reply.blocks import TextBlock
from openchat_local.app.tui.reply.messages import plain_blocks, prompt_blocks
from openchat_local.app.tui.reply.rows import Line
from openchat_local.app.tui.widgets.transcript import Transcript


class Host(App[None]):
    def compose(self) -> ComposeResult:
        yield Transcript()


@asynccontextmanager
async def transcript_of(lines: int) -> AsyncIterator[tuple[Transcript, Pilot[None]]]:
    app = Host()
    async with app.run_test(size=(60, 20)) as pilot:
        transcript = app.query_one(Transcript)
        transcript.show([block for n in range(lines) for block in prompt_blocks(f"line {n}")])
        await pilot.pause()
        yield transcript, pilot


def rows(transcript: Transcript) -> list[str]:
    return [transcript.render_line(y).text.strip() for y in range(transcript.size.height)]


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
            transcript.show([block])
            yield transcript

    async with Early().run_test(size=(60, 20)) as pilot:
        await pilot.pause()
        assert block.asked == [60 - 1 - 4]


async def test_a_growing_reply_stays_in_view() -> None:
    async with transcript_of(30) as (transcript, pilot):
        transcript.begin_reply()
        for number in range(50):
            transcript.grow_reply(f"reply {number}\n\n")
        await pilot.pause()
        assert "reply 49" in rows(transcript)


async def test_a_reader_who_scrolled_up_is_left_alone() -> None:
    async with transcript_of(30) as (transcript, pilot):
        transcript.begin_reply("Now ")
        transcript.page(-1)
        await pilot.pause()
        before = rows(transcript)
        for number in range(50):
            transcript.grow_reply(f"reply {number}\n\n")
        await pilot.pause()
        assert rows(transcript) == before


async def test_the_end_of_a_reply_does_not_move_a_reader_either() -> None:
    async with transcript_of(30) as (transcript, pilot):
        transcript.begin_reply("Now ")
        transcript.page(-1)
        await pilot.pause()
        before = rows(transcript)
        transcript.extend(plain_blocks("stopped"))
        await pilot.pause()
        assert rows(transcript) == before


async def test_coming_back_to_the_end_follows_again() -> None:
    async with transcript_of(30) as (transcript, pilot):
        transcript.begin_reply("Now ")
        transcript.page(-1)
        await pilot.pause()
        transcript.page(1)
        await pilot.pause()
        transcript.grow_reply("\n\n".join(f"reply {number}" for number in range(50)))
        await pilot.pause()
        assert "reply 49" in rows(transcript)


async def test_older_messages_do_not_move_what_is_read() -> None:
    async with transcript_of(30) as (transcript, pilot):
        transcript.scroll_to(y=5, animate=False)
        await pilot.pause()
        before = rows(transcript)
        transcript.prepend(plain_blocks("older\nand older"))
        await pilot.pause()
        assert rows(transcript) == before
        transcript.scroll_to(y=0, animate=False)
        await pilot.pause()
        assert "older" in rows(transcript)


@pytest.mark.parametrize("size", [(20, 10), (30, 40), (150, 8)])
async def test_a_resize_in_mid_reply_keeps_the_end_in_view(size: tuple[int, int]) -> None:
    async with transcript_of(10) as (transcript, pilot):
        transcript.begin_reply("word " * 100 + "\n\n")
        await pilot.resize_terminal(*size)
        await pilot.pause()
        transcript.grow_reply("the last words")
        await pilot.pause()
        assert "the last words" in rows(transcript)
        assert all(len(row) <= size[0] for row in rows(transcript))


async def test_a_resize_keeps_the_place_of_a_reader() -> None:
    async with transcript_of(60) as (transcript, pilot):
        transcript.scroll_to(y=20, animate=False)
        await pilot.pause()
        top = next(row for row in rows(transcript) if row)
        await pilot.resize_terminal(30, 20)
        await pilot.pause()
        assert top in rows(transcript)[:3]


async def test_a_selection_is_the_text_without_margins() -> None:
    async with transcript_of(0) as (transcript, _):
        transcript.show(plain_blocks("first line\nsecond line"))
        start, end = Offset(2 + 6, 1), Offset(2 + 6, 2)
        assert transcript.get_selection(Selection.from_offsets(start, end)) == (
            "line\nsecond",
            "\n",
        )


async def test_what_is_selected_is_highlighted() -> None:
    async with transcript_of(0) as (transcript, pilot):
        transcript.show(plain_blocks("some words"))
        await pilot.pause()
        plain = list(transcript.render_line(1))
        transcript.screen.selections = {
            transcript: Selection.from_offsets(Offset(2, 1), Offset(6, 1))
        }
        await pilot.pause()
        selected = list(transcript.render_line(1))
        assert selected != plain
        assert "".join(segment.text for segment in selected).strip() == "some words"
