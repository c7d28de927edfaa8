"""What is done with messages in the window: answered again, continued, edited, rated, copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.widgets import TextArea

from openchat_local.app.chats import Chat, ChatStore, ReplyEnd, StoredMessage
from openchat_local.app.tui.markdown.branch_layout import OUTSIDE
from openchat_local.app.tui.questions.choose_code import ChooseCode
from openchat_local.app.tui.questions.edit_reply import EditReply
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.widgets.action_bar import EDITING, ActionBar
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.transcript import Transcript
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from support.engines import SlowDiskEngine
from support.window import OpenWindow, Window

CODE = "Two:\n\n```python\nprint('一')\n```\n\n- and\n\n  ```sh\n  ls\n  ```\n"
HITS = ("hit", "current-hit")
USAGE = {"generated_tokens": 42, "decode_seconds": 0.5, "time_to_first_token": 0.25}


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    """The store of another window on the same home."""
    store = ChatStore.open(home)
    yield store
    store.close()


class Talk:
    """A chat that is written by hand."""

    def __init__(self, store: ChatStore) -> None:
        self.store = store
        self.id = store.new_chat().id

    @property
    def chat(self) -> Chat:
        return self.store.chat(self.id)

    def prompt(self, text: str) -> StoredMessage:
        return self.store.add_message(self.id, self.chat.leaf_id, "user", text)

    def reply(
        self,
        text: str,
        reason: ReplyEnd = "stop",
        *,
        under: str | None = None,
        **usage: float,
    ) -> StoredMessage:
        reply = self.store.begin_reply(self.id, under or self.chat.leaf_id, model="m")
        return self.store.finish_reply(reply.id, text, reason, usage=USAGE | usage)

    def branch(self) -> list[str]:
        return [message.content for message in self.store.branch(self.id)]


@pytest.fixture
def talk(store: ChatStore) -> Talk:
    return Talk(store)


async def opened(window: Window, talk: Talk) -> None:
    await window.until(lambda: window.listed)
    window.pane.post_message(ChatList.Picked(talk.id))
    await window.until(lambda: window.pane.transcript.turns)
    await window.pilot.pause()


async def selected(window: Window, message: StoredMessage) -> None:
    """Go up to a message as a user does."""
    for _ in range(20):
        await window.pilot.press("alt+up")
        if window.pane.transcript.selected_key == message.id:
            await window.pilot.pause()
            return
    raise AssertionError(window.screen_text())


# Versions


async def test_a_prompt_is_answered_again_and_both_answers_are_walked(
    open_window: OpenWindow, engine: LocalEngine, talk: Talk
) -> None:
    talk.prompt("Say hello.")
    first = talk.reply("First try.")
    talk.prompt("Thanks.")
    talk.reply("Welcome.")
    async with open_window(engine) as window:
        await opened(window, talk)
        await window.until(lambda: window.pane.loader.loaded)
        await selected(window, first)
        await window.pilot.press("r")
        await window.until(lambda: window.pane.reply and window.pane.reply.text)
        assert "First try." not in window.screen_text()
        await window.until(lambda: not window.pane.busy)
        await window.until(lambda: "‹ 2/2 ›" in window.screen_text())
        prompt, second = talk.store.branch(talk.id)
        assert second.parent_id == prompt.id
        assert second.usage is not None

        await selected(window, second)
        await window.pilot.press("left")
        await window.until(lambda: "First try." in window.screen_text())
        assert "Welcome." in window.screen_text()
        assert "‹ 1/2 ›" in window.screen_text()
        assert window.pane.transcript.selected_key == first.id
    # The branch that was looked at last is the one that is shown next time.
    assert talk.branch() == ["Say hello.", "First try.", "Thanks.", "Welcome."]
    async with open_window(engine) as window:
        await opened(window, talk)
        assert "Welcome." in window.screen_text()


async def test_another_branch_can_be_read_while_a_reply_is_written(
    open_window: OpenWindow, engine: LocalEngine, talk: Talk
) -> None:
    talk.prompt("Tell a very long story.")
    old = talk.reply("An old story.")
    async with open_window(engine, max_tokens=1500) as window:
        await opened(window, talk)
        await window.until(lambda: window.pane.loader.loaded)
        await window.pilot.press("ctrl+r")  # the last reply, since none is selected
        await window.until(lambda: window.pane.reply and window.pane.reply.tokens > 5)
        reply = window.pane.reply
        assert reply is not None
        assert reply.message is not None
        await selected(window, reply.message)
        await window.pilot.press("left")
        await window.until(lambda: "An old story." in window.screen_text())
        seen = reply.tokens
        await window.until(lambda: reply.tokens > seen + 5)
        assert reply.text[:40] not in window.screen_text()
        await window.pilot.press("r")
        await window.until(lambda: "One reply at a time" in window.pane.notice.text)
        await window.pilot.press("right")
        await window.until(lambda: reply.text[:20] in window.screen_text())
        seen = reply.tokens
        await window.until(lambda: reply.tokens > seen + 5)
        await window.pilot.press("escape")
        await window.until(lambda: not window.pane.busy)
        await window.until(lambda: "— cancelled —" in window.screen_text())
    assert {message.id for message in talk.store.siblings(old.id)} == {old.id, reply.message.id}


async def test_a_cut_reply_goes_on_as_a_version_of_its_own(
    open_window: OpenWindow, engine: LocalEngine, talk: Talk
) -> None:
    talk.prompt("Count to ten in words.")
    cut = talk.reply("One, two, three,", "length")
    async with open_window(engine, max_tokens=8) as window:
        await opened(window, talk)
        await window.until(lambda: window.pane.loader.loaded)
        await selected(window, cut)
        await window.until(lambda: "c continue" in str(window.pane.query_one(ActionBar).render()))
        await window.pilot.press("c")
        await window.answered()
        _, longer = talk.store.branch(talk.id)
        assert longer.content.startswith("One, two, three,")
        assert len(longer.content) > len(cut.content)
        assert (longer.sibling, longer.siblings) == (2, 2)
        assert "stopped at 8 tokens: F4 continues it" in window.pane.notice.text
        assert longer.content.replace("\n", " ")[:40] in window.screen_text().replace("\n", " ")
    assert talk.store.message(cut.id).content == "One, two, three,"


async def test_a_whole_reply_is_not_continued(open_window: OpenWindow, talk: Talk) -> None:
    talk.prompt("Hi")
    talk.reply("Hello.")
    async with open_window() as window:
        await opened(window, talk)
        await window.pilot.press("f4")
        await window.until(lambda: "not cut" in window.pane.notice.text)
    assert talk.branch() == ["Hi", "Hello."]


async def test_a_reply_cut_before_its_first_word_is_not_called_whole(
    open_window: OpenWindow, talk: Talk
) -> None:
    talk.prompt("Hi")
    talk.reply("", "engine died")
    async with open_window() as window:
        await opened(window, talk)
        await window.pilot.press("f4")
        await window.until(lambda: "Nothing of this reply was written" in window.pane.notice.text)
    assert talk.branch() == ["Hi", ""]


# Editing


async def test_an_earlier_prompt_is_edited_and_answered_beside_the_old_one(
    open_window: OpenWindow, engine: LocalEngine, talk: Talk
) -> None:
    first = talk.prompt("Say helo.")
    talk.reply("What?")
    async with open_window(engine) as window:
        await opened(window, talk)
        await window.until(lambda: window.pane.loader.loaded)
        await window.write("a draft")
        await selected(window, first)
        await window.pilot.press("e")
        assert window.pane.prompt.text == "Say helo."
        assert str(window.pane.query_one(ActionBar).render()) == EDITING
        window.pane.prompt.put("Say hello.")
        await window.pilot.press("enter")
        await window.answered()
        assert window.pane.prompt.text == "a draft"
        edited, answer = talk.store.branch(talk.id)
        assert (edited.content, edited.parent_id) == ("Say hello.", None)
        assert answer.parent_id == edited.id
        assert "‹ 2/2 ›" in window.screen_text()
        assert "What?" not in window.screen_text()
    assert talk.store.message(first.id).content == "Say helo."


async def test_esc_gives_up_an_edit_and_the_draft_comes_back(
    open_window: OpenWindow, talk: Talk
) -> None:
    first = talk.prompt("One")
    talk.reply("1")
    async with open_window() as window:
        await opened(window, talk)
        await window.write("a draft")
        await window.until(lambda: talk.chat.draft == "a draft")
        await selected(window, first)
        await window.pilot.press("e")
        await window.write(" and more")
        await window.pilot.pause(0.7)
        assert talk.chat.draft == "a draft", "an edit is no draft"
        await window.pilot.press("escape")
        assert window.pane.prompt.text == "a draft"
        assert window.pane.transcript.selected_key is None
    assert talk.branch() == ["One", "1"]
    assert talk.chat.draft == "a draft"


async def test_what_a_reply_should_have_said_is_a_version_marked_as_edited(
    open_window: OpenWindow, talk: Talk
) -> None:
    talk.prompt("Capital of France?")
    wrong = talk.reply("London,\nI think.")
    async with open_window() as window:
        await opened(window, talk)
        await selected(window, wrong)
        await window.pilot.press("e")
        await window.until(lambda: isinstance(window.app.screen, EditReply))
        window.app.screen.query_one(TextArea).load_text("Paris!")
        await window.pilot.press("ctrl+s")
        await window.until(lambda: "Paris!" in window.screen_text())
        assert "edited" in window.screen_text()
        _, right = talk.store.branch(talk.id)
        assert (right.content, right.edited, right.siblings) == ("Paris!", True, 2)

        await window.pilot.press("e")
        await window.until(lambda: isinstance(window.app.screen, EditReply))
        await window.pilot.press(*"no", "escape")
        await window.until(lambda: not isinstance(window.app.screen, EditReply))
    assert talk.branch() == ["Capital of France?", "Paris!"]
    assert talk.store.message(wrong.id).content == "London,\nI think."


async def test_an_edit_ends_with_a_look_at_another_chat(
    open_window: OpenWindow, store: ChatStore, talk: Talk
) -> None:
    first = talk.prompt("One")
    async with open_window() as window:
        await opened(window, talk)
        await selected(window, first)
        await window.pilot.press("e")
        await window.pilot.press("ctrl+n")
        await window.until(lambda: not window.pane.transcript.turns)
        assert window.pane.prompt.text == ""
        assert window.pane.editing is None
    assert talk.chat.draft == ""


# Rating


async def test_a_rating_is_shown_and_stored_and_taken_back(
    open_window: OpenWindow, talk: Talk
) -> None:
    talk.prompt("Hi")
    reply = talk.reply("Hello.")
    async with open_window() as window:
        await opened(window, talk)
        await selected(window, reply)
        for key, rating, shown in (("+", 1, "👍"), ("-", -1, "👎"), ("-", None, "42 tokens")):
            await window.pilot.press(key)
            await window.until(lambda rating=rating: talk.store.message(reply.id).rating == rating)
            await window.until(lambda shown=shown: shown in window.screen_text())
        assert "👎" not in window.screen_text()
        # Pressed twice at once: there and back.
        await window.pilot.press("+", "+")
        await window.pilot.pause()
        assert talk.store.message(reply.id).rating is None


async def test_a_rating_has_a_reason(open_window: OpenWindow, talk: Talk) -> None:
    talk.prompt("Hi")
    reply = talk.reply("Hello.")

    def reason() -> str | None:
        return talk.store.message(reply.id).rating_reason

    async with open_window() as window:
        await opened(window, talk)
        bar = window.app.query_one(ActionBar)
        await selected(window, reply)
        await window.pilot.press("w")
        await window.until(lambda: "Rate a reply first" in window.pane.notice.text)
        await window.pilot.press("-")
        await window.until(lambda: "w why" in str(bar.content))
        await window.pilot.press("w")
        await window.until(lambda: isinstance(window.app.screen, AskLine))
        await window.pilot.press(*"short", "enter")
        await window.until(lambda: "👎 short" in window.screen_text())
        # Without a selection it is the last rated reply's, and a control character is seen.
        await window.pilot.press("escape")
        await window.send("/why too \x1bshort")
        await window.until(lambda: reason() == "too \x1bshort")
        await window.until(lambda: "👎 too ␛short" in window.screen_text())
        await selected(window, reply)
        await window.pilot.press("w")
        await window.until(lambda: isinstance(window.app.screen, AskLine))
        await window.pilot.press("escape")
        assert reason() == "too \x1bshort"
        await window.pilot.press("+")
        await window.until(lambda: "taken back with the rating" in window.pane.notice.text)
        await window.until(lambda: "👎" not in window.screen_text())
        assert reason() is None


async def test_the_palette_acts_on_the_last_reply(open_window: OpenWindow, talk: Talk) -> None:
    talk.prompt("Hi")
    reply = talk.reply("Hello.")
    async with open_window() as window:
        await opened(window, talk)
        await window.in_palette("Rate", "Rate 👍")
        await window.until(lambda: talk.store.message(reply.id).rating)


# Reading and copying


async def test_a_reply_says_what_it_cost(open_window: OpenWindow, talk: Talk) -> None:
    talk.prompt("Hi")
    talk.reply("Hello.", "length")
    async with open_window() as window:
        await opened(window, talk)
        line = "— ended at the token limit —  42 tokens · 84.0 tokens/s · first after 0.25 s"
        assert line in window.screen_text()


async def test_a_reply_says_how_much_of_it_was_drafted(open_window: OpenWindow, talk: Talk) -> None:
    talk.prompt("Hi")
    talk.reply("Hello.", drafted_tokens=40, accepted_tokens=31)
    async with open_window() as window:
        await opened(window, talk)
        assert "84.0 tokens/s · drafts 31/40 · first" in window.screen_text()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Callable[[Window], str]:
    """What went to the terminal's clipboard, on a machine without a clipboard program."""
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "TERM_PROGRAM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("TERM", "xterm-256color")
    return lambda window: window.app.clipboard


async def test_messages_code_and_the_whole_chat_are_copied(
    open_window: OpenWindow, talk: Talk, copied: Callable[[Window], str]
) -> None:
    prompt = talk.prompt("Show me.")
    reply = talk.reply(CODE)
    async with open_window() as window:
        await opened(window, talk)
        await selected(window, reply)
        await window.pilot.press("y")
        await window.until(lambda: copied(window) == CODE)
        await window.until(lambda: "OSC 52" in window.pane.notice.text)

        await window.pilot.press("k")
        await window.until(lambda: isinstance(window.app.screen, ChooseCode))
        await window.pilot.press("2")
        await window.until(lambda: copied(window) == "ls\n")
        await window.pilot.press("k")
        await window.until(lambda: isinstance(window.app.screen, ChooseCode))
        await window.pilot.press("enter")
        await window.until(lambda: copied(window) == "print('一')\n")

        await window.pilot.press("a")
        await window.until(lambda: copied(window).startswith("# Show me."))
        assert CODE.strip() in copied(window)

        await selected(window, prompt)
        await window.pilot.press("y")
        await window.until(lambda: copied(window) == "Show me.")
        await window.pilot.press("k")
        await window.until(lambda: "no code block" in window.pane.notice.text)
        await window.pilot.press("o")
        await window.until(lambda: "No file went along" in window.pane.notice.text)
        assert window.pane.prompt.text == ""


async def test_what_the_mouse_selected_is_copied_and_said(
    open_window: OpenWindow, talk: Talk, copied: Callable[[Window], str]
) -> None:
    talk.prompt("Hi")
    talk.reply("全部 of these words")
    async with open_window() as window:
        await opened(window, talk)
        line = window.screen_rows().index("全部 of these words")
        await window.pilot.mouse_down(Transcript, offset=(2, line))
        await window.pilot.hover(Transcript, offset=(9, line))
        await window.pilot.mouse_up(Transcript, offset=(9, line))
        await window.pilot.press("ctrl+c")
        await window.until(lambda: copied(window) == "全部 of")
        await window.until(lambda: "What is selected is copied" in window.pane.notice.text)


async def test_where_nothing_copies_a_file_takes_it_until_the_window_closes(
    open_window: OpenWindow,
    talk: Talk,
    home: Path,
    copied: Callable[[Window], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "linux")
    talk.prompt("Hi")
    talk.reply("Hello.")
    file = home / "copied.txt"
    async with open_window() as window:
        await opened(window, talk)
        await window.pilot.press("f3")
        await window.until(file.exists)
        await window.until(lambda: "copied.txt" in window.pane.notice.text)
        assert file.read_text() == "Hello."
        assert file.stat().st_mode & 0o077 == 0
    assert not file.exists()


# Keys at the wrong moment


async def test_letters_are_the_beginning_of_a_prompt_while_no_message_is_selected(
    open_window: OpenWindow, talk: Talk
) -> None:
    talk.prompt("Hi")
    talk.reply("Hello.")
    async with open_window() as window:
        await opened(window, talk)
        window.pane.transcript.focus()
        await window.pilot.press(*"really")
        assert window.pane.prompt.text == "really"
    assert talk.branch() == ["Hi", "Hello."]


async def test_keys_while_the_model_loads_do_nothing_twice(
    open_window: OpenWindow, engine: LocalEngine, talk: Talk
) -> None:
    talk.prompt("Hi")
    reply = talk.reply("Hello.")
    slow = SlowDiskEngine(engine.options)
    async with open_window(slow) as window:
        await opened(window, talk)
        await window.pilot.press("ctrl+r", "ctrl+r", "f4")
        await window.until(lambda: window.pane.busy)
        await selected(window, reply)
        await window.pilot.press("left", "+", "e")
        await window.until(lambda: isinstance(window.app.screen, EditReply))
        await window.pilot.press("escape")
        slow.may_load.set()
        await window.answered()
    assert len(talk.store.siblings(reply.id)) == 2
    assert talk.store.message(reply.id).rating == 1


# Finding


async def test_find_in_chat_goes_through_the_whole_branch(
    open_window: OpenWindow, talk: Talk
) -> None:
    for number in range(60):
        talk.prompt(f"Question {number}")
        talk.reply(f"Answer **num**ber {number}: the NEEDLE{'s' if number % 20 == 0 else ''}.")
    async with open_window() as window:
        await opened(window, talk)
        await window.pilot.press("ctrl+f", *"needles")
        await window.until(lambda: "3/3" in find_count(window))
        assert "Answer number 40" in window.screen_text()
        await window.pilot.press("enter")
        await window.until(lambda: "Answer number 20" in window.screen_text())
        await window.pilot.press("enter")
        await window.until(lambda: "Answer number 0:" in window.screen_text())
        assert "1/3" in find_count(window)
        await window.pilot.press("up")  # round the beginning
        await window.until(lambda: "3/3" in find_count(window))
        await window.pilot.press("down")
        await window.until(lambda: "1/3" in find_count(window))
        await window.pilot.press(*" absent")
        await window.until(lambda: "nothing found" in find_count(window))
        await window.pilot.press("escape")
        assert window.pane.prompt.has_focus
        assert window.pane.prompt.text == ""


async def test_hits_are_marked_and_the_current_one_stands_out(
    open_window: OpenWindow, talk: Talk
) -> None:
    talk.prompt("one fish")
    talk.reply("two fish, red fish")
    async with open_window() as window:
        await opened(window, talk)
        await window.pilot.press("ctrl+f", *"fish")
        await window.until(lambda: "3/3" in find_count(window))
        transcript = window.pane.transcript
        backgrounds = [
            segment.style.bgcolor
            for y in range(transcript.size.height)
            for segment in transcript.render_line(y)
            if segment.style is not None and segment.text == "fish"
        ]
        styles = (transcript.get_component_rich_style(f"transcript--{name}") for name in HITS)
        hit, current = (style.bgcolor for style in styles)
        assert backgrounds == [hit, hit, current]
        assert hit != current


def find_count(window: Window) -> str:
    return str(window.pane.query_one("#count").render())


# The context


async def test_what_the_model_no_longer_sees_is_grey_and_told_when_it_happens(
    open_window: OpenWindow, talk: Talk, starter_path: Path
) -> None:
    for number in range(12):
        talk.prompt(f"{number}: " + "word " * 40)
        talk.reply("reply " * 10)
    engine = LocalEngine(EngineOptions(starter_path, context=512))
    async with open_window(engine, max_tokens=4, size=(120, 90)) as window:
        await opened(window, talk)
        transcript = window.pane.transcript
        await window.until(lambda: any(section.faded for section in transcript.laid_out.sections))
        assert OUTSIDE in window.screen_text()
        faded = [section.faded for section in transcript.laid_out.sections]
        assert faded == sorted(faded, reverse=True)
        assert (window.status.tokens or 0) < 512
        await window.send("Say hello.")
        await window.answered()
        assert "do not fit into the context of 512 tokens" in window.pane.notice.text
        assert talk.store.branch(talk.id)[-1].content
    engine.close()
