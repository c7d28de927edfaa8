"""Whatever a model, an import or a person writes: the terminal shows it and does not obey it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.widgets import OptionList

from openchat_local.app.chats import StoredMessage
from openchat_local.app.printable import printable
from openchat_local.app.tui.markdown.code import code_blocks
from openchat_local.app.tui.markdown.document import Document
from openchat_local.app.tui.markdown.sections import message_section
from openchat_local.app.tui.questions.choose_code import ChooseCode
from openchat_local.app.tui.widgets.action_bar import ActionBar
from openchat_local.app.tui.widgets.find_bar import FindBar
from openchat_local.app.tui.widgets.notice import Notice
from openchat_local.app.tui.widgets.status_bar import Status
from openchat_local.app.tui.widgets.transcript import Transcript
from support.hostile import obeyed
from support.turns import turn

# What terminals, Rich's and Textual's markup, and Markdown's own ways to write a character
# (entities, percent signs in links) could make of a text.
PIECES = [
    "\x1b[31m", "\x1b]0;title\x07", "\x1b]52;c;ZQ==\x07", "\x9b2J", "\x90q", "\x00", "\x08", "\r",
    "\x7f", "\u202e", "\u2066", "\u200f", "\ud800", "\t", "\n", "\n\n", "    ",
    "&#27;", "&#x1b;", "&#x9b;", "&#x202e;", "&rlm;", "&#9;", "&Tab;", "&NewLine;", "&#127;",
    "<http://a.b/%1b[31m%9b%C2%9B%07>", "[a](http://x/%1b%07)", "![b](%1b \"\x1b\")", "](",
    "[red]", "[/]", "[link=file:///x]", "[@click=app.quit]", "$text", "\\[", "`", "```", "```\x1b",
    "~~~py\x1b[1m\n", "| a | b |\n|---|--:|\n", "| \x1b |", "- ", "1. ", "> ", "# ", "**", "_",
    "<b>", "</b>", "<!--", "你好", "e\u0301", "👩‍👩‍👧", "word", " ",
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join)


def rows_of(message: StoredMessage, width: int) -> list[str]:
    section = message_section(message)
    section.lay_out(width)
    return [
        "".join(text for text, _ in row)
        for number in range(len(section.blocks))
        for row in section.rows(number)
    ]


@settings(max_examples=400, deadline=None)
@given(HOSTILE, st.integers(8, 60), st.sampled_from(["user", "assistant", "system"]))
def test_no_row_of_a_message_holds_what_a_terminal_obeys(
    content: str, width: int, role: str
) -> None:
    message = turn(1, role, content, finish_reason=content, sibling=2, siblings=3)  # type: ignore[arg-type]
    for row in rows_of(message, width):
        assert not obeyed(row), ascii(row)


@settings(max_examples=150, deadline=None)
@given(st.lists(HOSTILE, max_size=6))
def test_nor_does_a_reply_that_comes_in_pieces(pieces: list[str]) -> None:
    document = Document()
    for piece in pieces:
        document.append(printable(piece))
        for block in document.blocks:
            for row in block.rows(40):
                assert not obeyed("".join(text for text, _ in row))


@given(HOSTILE)
def test_nor_do_names_of_models_and_of_languages_in_lines_of_the_window(text: str) -> None:
    line = Status(model=printable(text).replace("\n", " ").replace("\t", " ")).line(60)
    assert not obeyed(line)
    for block in code_blocks(text):
        assert not obeyed(str(ChooseCode._line(1, block)))


MARKUP = "[bold red]x[/bold red] [@click=app.quit]y[/] [/nothing] $primary"


async def test_markup_is_text_wherever_a_message_or_a_word_of_it_is_shown() -> None:
    class Host(App[None]):
        def compose(self) -> ComposeResult:
            yield Transcript()
            yield FindBar()
            yield ActionBar()
            yield Notice()

    app = Host()
    async with app.run_test(size=(100, 30)) as pilot:
        transcript = app.query_one(Transcript)
        turns = [turn(0, "user", MARKUP), turn(1, "assistant", f"{MARKUP}\n\n```x\n{MARKUP}\n```")]
        transcript.show_turns(turns)
        app.query_one(Notice).tell(MARKUP)
        app.query_one(ActionBar).show(MARKUP)
        app.query_one(FindBar).open()
        app.query_one(FindBar).tell(MARKUP)
        app.push_screen(ChooseCode(code_blocks(turns[1].content)))
        await pilot.pause()
        rows = [transcript.render_line(y) for y in range(transcript.size.height)]
        assert sum(MARKUP in row.text for row in rows) == 3
        assert all(segment.control is None for row in rows for segment in row)
        styles = [segment.style for row in rows for segment in row if segment.style is not None]
        assert not any(style.link or "@click" in style.meta for style in styles)
        assert str(app.screen_stack[0].query_one(Notice).render()) == MARKUP
        assert str(app.screen_stack[0].query_one(ActionBar).render()) == MARKUP
        assert MARKUP[:50] in str(app.screen.query_one(OptionList).options[0].prompt)
