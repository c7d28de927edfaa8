"""Commands, attachments and prompts from before, written into the prompt."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.paths import config_path
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.chat.completion import suggestions
from openchat_local.app.tui.chat.slash import (
    SlashCommand,
    StandsAlone,
    UnknownCommand,
    is_command,
    parse,
)
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.tui.screens.chat import ChatScreen
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.screens.models import ModelsScreen
from openchat_local.app.tui.screens.search import Search
from openchat_local.app.tui.widgets.attached_files import AttachedFiles
from openchat_local.app.tui.widgets.chat_list import ChatList
from openchat_local.app.tui.widgets.options_panel import OptionsPanel
from openchat_local.app.tui.widgets.suggestions import Suggestions
from openchat_local.models.engine.local import LocalEngine
from support.window import OpenWindow, Window

Stored = Callable[[], list[StoredMessage]]


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    """The store of another window on the same home."""
    store = ChatStore.open(home)
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the program was started in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


async def nothing(_: str) -> None:
    """What these commands do does not matter here."""


COMMANDS = [
    SlashCommand("tag", "[TAGS]", "tag it", nothing, lambda: ("sea", "Ships")),
    SlashCommand("title", "[TEXT]", "name it", nothing),
    SlashCommand("pin", "", "pin it", nothing),
    SlashCommand("top-k", "[NUMBER]", "so many", nothing),
]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/tag", True),
        ("/tag sea ships", True),
        (" /TOP_K 4", True),
        ("/", True),  # what may become one
        ("/to", True),
        ("/tagged words", False),
        ("/tmp is full, why?", False),
        ("/etc/hosts is what?", False),
        ("//tag", False),
        ("/pin this to the top of the page", False),  # refused, and a prompt with another /
        ("words", False),
        ("", False),
    ],
)
def test_what_is_written_is_a_command_or_a_prompt(text: str, command: bool) -> None:
    assert is_command(text, COMMANDS) == command


async def test_a_command_that_was_not_entered_is_no_draft_and_begins_no_chat(
    open_window: OpenWindow, store: ChatStore
) -> None:
    for text in ("/temp", "/title of it", "/system You are"):
        async with open_window() as window:
            await window.write(text)
    assert store.chats() == []
    async with open_window() as window:
        await window.write("/etc/hosts is what?")
    assert [chat.draft for chat in store.chats()] == ["/etc/hosts is what?"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/pin", ("pin", "")),
        (" /title  a long title \n", ("title", "a long title")),
        ("/title two\nlines", ("title", "two\nlines")),
        ("//pin", "/pin"),
        (" //pin // two", " /pin // two"),
        ("// a comment", "// a comment"),
        ("/// of Rust\nfn main() {}", "/// of Rust\nfn main() {}"),
        ("//www.example.com/pin", "//www.example.com/pin"),
        ("/PIN", ("pin", "")),
        ("/top_k 3", ("top-k", "3")),
        ("/usr/bin/env: not found, why?", "/usr/bin/env: not found, why?"),
        ("/tmp is full, why?", "/tmp is full, why?"),
        ("/dev: what is it?", "/dev: what is it?"),
        ("/TODO is a tag, is it not?", "/TODO is a tag, is it not?"),
        ("/usr/bin/env is a path", "/usr/bin/env is a path"),
        ("/2 is half", "/2 is half"),
        ("and /pin in the middle", "and /pin in the middle"),
        ("", ""),
    ],
)
def test_what_is_a_command_and_what_is_a_prompt(text: str, meant: object) -> None:
    found = parse(text, COMMANDS)
    assert (found if isinstance(found, str) else (found[0].name, found[1])) == meant


def test_an_unknown_command_is_told_with_the_one_that_is_like_it() -> None:
    with pytest.raises(UnknownCommand, match=r"no command /titel: did you mean /title\?"):
        parse("/titel x", COMMANDS)


@pytest.mark.parametrize(
    ("before", "inserted"),
    [
        ("/", ["/tag ", "/title ", "/pin", "/top-k "]),
        ("/TOP_", ["/top-k "]),
        ("/ti", ["/title "]),
        ("/tag s", ["sea", "Ships"]),
        ("/tag sea", []),
        ("x /ti", []),
        ("read @", ["@a b/", "@notes.txt", "@src/"]),
        ("read @a", ['@"a b/']),
        ('@"a b/', ['@"a b/c d.txt"']),
        ("@src/", ["@src/main.py"]),
        ("@src/.", ["@src/.hidden"]),
        ("@nowhere/", []),
        ("me@no", []),
    ],
)
def test_what_may_follow(folder: Path, before: str, inserted: list[str]) -> None:
    for name in ("notes.txt", "src/main.py", "src/.hidden", "a b/c d.txt", "es\x1bcape"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    found = [each.insert for each in suggestions(before, COMMANDS)]
    assert [each.replace('@"a b/', "@a b/") if before == "read @" else each for each in found] == (
        inserted
    )


@pytest.mark.parametrize("text", ["/pin this on the wall", "/pin\nthis", "/Pin no"])
def test_text_after_a_command_that_takes_none_is_refused(text: str) -> None:
    with pytest.raises(StandsAlone, match="takes no text after it, so nothing was done"):
        parse(text, COMMANDS)


async def test_text_after_a_command_that_takes_none_is_given_back_and_nothing_is_done(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = store.new_chat(title="kept")
    store.add_message(chat.id, None, "user", "Where to?")
    async with open_window() as window:
        await open_first(window, "Where to?")
        screen = window.app.screen
        assert isinstance(screen, ChatScreen)
        alone = [command.name for command in screen._commands if not command.argument]
        assert {"delete", "quit", "exit", "private", "pin", "new", "clear"} <= set(alone)
        for name in alone:
            text = f"/{name} endpoint returns 404, why?"
            window.pane.prompt.put(text)
            await window.pilot.press("enter")
            await window.until(lambda: window.pane.notice.text)
            assert f"/{name} takes no text" in window.pane.notice.text
            assert window.pane.prompt.text == text
            assert window.app.screen is screen
        now = store.chat(chat.id)
        assert (now.pinned, now.private, now.message_count) == (False, False, 1)
        window.pane.prompt.put("//delete endpoint returns 404, why?")
        await window.pilot.press("enter")
        await window.until(lambda: len(store.branch(chat.id)) == 2)
    assert store.branch(chat.id)[-1].content == "/delete endpoint returns 404, why?"


async def test_the_command_that_deletes_asks(open_window: OpenWindow, store: ChatStore) -> None:
    chat = store.new_chat(title="kept")
    store.add_message(chat.id, None, "user", "Where to?")
    async with open_window() as window:
        await window.send("/delete")
        await window.until(lambda: "nothing to delete" in window.pane.notice.text)
        await open_first(window, "Where to?")
        for key in ("enter", "escape"):
            await window.send("/delete")
            await window.until(lambda: isinstance(window.app.screen, Confirm))
            await window.pilot.press(key)
            await window.pilot.press("n")
            await window.until(lambda: not isinstance(window.app.screen, Confirm))
            window.pane.prompt.put("")
        assert [each.id for each in store.chats()] == [chat.id]
        await window.send("/delete")
        await window.until(lambda: isinstance(window.app.screen, Confirm))
        await window.pilot.press("y")
        await window.until(lambda: "“kept” is deleted" in window.pane.notice.text)
    assert store.chats() == []


async def test_enter_after_keys_that_came_at_once_takes_no_older_suggestion(
    open_window: OpenWindow,
) -> None:
    async with open_window() as window:
        suggested = window.app.screen.query_one(Suggestions)
        prompt = window.pane.prompt
        for text, left in (("pin this on the wall", "/pin this on the wall"), ("tempe", "")):
            await window.pilot.press("/")
            await window.until(lambda: suggested.current and suggested.current.length == 1)
            # In one go, as from a burst of typing: nothing is suggested in between.
            prompt.insert(text)
            for key in ("enter", "enter"):
                prompt.post_message(events.Key(key, "\r"))
            await window.until(lambda: window.pane.notice.text)
            assert prompt.text == left
            prompt.put("")
        assert "The temperature is" in window.pane.notice.text


NASTY = ("x\x00.md", "~nobody-here/x.md", "a" * 5000 + ".md", "a/" * 2500, "1e999", "nan", "9" * 30)


async def test_no_argument_of_any_command_ends_the_window(
    open_window: OpenWindow, store: ChatStore, folder: Path
) -> None:
    chat = store.new_chat(title="kept")
    store.add_message(chat.id, None, "user", "Where to?")
    async with open_window() as window:
        await open_first(window, "Where to?")
        screen = window.app.screen
        assert isinstance(screen, ChatScreen)
        taking = [each for each in screen._commands if each.argument and each.name != "search"]
        assert len(taking) > 10
        for command in taking:
            for argument in NASTY:
                await command.run(argument)
    assert list(folder.iterdir()) == []


async def test_what_follows_the_search_command_is_searched_for(
    open_window: OpenWindow, store: ChatStore
) -> None:
    for title in ('A poem it\'s "quoted"', "Other"):
        chat = store.new_chat(title=title)
        store.add_message(chat.id, None, "user", title)
    async with open_window() as window:
        await window.send('/search poem "quoted"')
        await window.until(lambda: isinstance(window.app.screen, Search))
        screen = window.app.screen
        await window.until(lambda: screen._hits)  # type: ignore[attr-defined]
        assert screen.query_one(Input).value == 'poem "quoted"'
        assert {hit.title for hit in screen._hits} == {'A poem it\'s "quoted"'}  # type: ignore[attr-defined]
        await window.pilot.press("escape")


async def test_commands_come_back_by_up_between_the_prompts(
    open_window: OpenWindow, store: ChatStore
) -> None:
    chat = store.new_chat()
    store.add_message(chat.id, None, "user", "before")
    async with open_window() as window:
        await window.until(lambda: window.listed)
        prompt = window.pane.prompt
        await window.send("/temperature hot")
        await window.until(lambda: "cannot be 'hot'" in window.pane.notice.text)
        await window.send("after")
        await window.until(lambda: len(store.chats()) == 2)
        await window.send("/titel x")
        await window.until(lambda: "did you mean /title" in window.pane.notice.text)
        prompt.put("")
        found = []
        for _ in range(4):
            await window.pilot.press("up")
            await window.until(lambda: prompt.text not in ("", *found))
            found.append(prompt.text)
    assert found == ["/titel x", "after", "/temperature hot", "before"]


async def test_typing_a_command_moves_nothing_and_counts_for_nothing(
    open_window: OpenWindow, engine: LocalEngine, store: ChatStore
) -> None:
    chat = store.new_chat()
    store.add_message(chat.id, None, "user", "\n\n".join(f"line {n}" for n in range(60)))
    async with open_window(engine) as window:
        await window.until(lambda: window.status.context)
        await open_first(window, "line 59")
        await window.until(lambda: window.status.tokens)
        before, rows = window.status.tokens, window.screen_rows()
        size, offset = window.pane.transcript.size, window.pane.transcript.scroll_offset
        suggested = window.app.screen.query_one(Suggestions)
        await window.write("/")
        await window.until(lambda: suggested.current)
        assert window.screen_rows() == rows
        assert (window.pane.transcript.size, window.pane.transcript.scroll_offset) == (size, offset)
        assert suggested.region.bottom == window.pane.prompt.region.y
        assert suggested.region.height == 8
        window.pane.prompt.put("word " * 50)
        await window.until(lambda: (window.status.tokens or 0) > (before or 0) + 40)
        window.pane.prompt.put("/system " + "word " * 50)
        await window.until(lambda: window.status.tokens == before)


async def test_a_command_is_completed_with_tab_and_nothing_of_it_is_sent(
    open_window: OpenWindow, stored: Stored
) -> None:
    async with open_window() as window:
        suggested = window.app.screen.query_one(Suggestions)
        await window.pilot.press("/", *"tempe")
        await window.until(lambda: suggested.current)
        assert suggested.current is not None
        assert suggested.current.label == "/temperature [NUMBER]"
        await window.pilot.press("tab", *"0.25", "enter")
        await window.until(lambda: "temperature is 0.25 from the" in window.pane.notice.text)
        await window.send("/temperature hot")
        wrong = "temperature cannot be 'hot': it is a number from 0 to 10; default is the value"
        await window.until(lambda: window.pane.notice.text.startswith(wrong))
        await window.send("/temperature")
        await window.until(lambda: window.pane.notice.text == "The temperature is 0.25.")
        await window.send("/temprature 1")
        await window.until(lambda: "did you mean /temperature" in window.pane.notice.text)
        assert window.pane.prompt.text == "/temprature 1"
        window.pane.prompt.put("//pin is a slash")
        await window.pilot.press("enter")
        await window.until(lambda: "/pin is a slash" in window.screen_text())
    assert [message.content for message in stored()] == ["/pin is a slash"]


async def test_arrows_choose_among_the_commands_and_enter_completes(
    open_window: OpenWindow,
) -> None:
    async with open_window() as window:
        suggested = window.app.screen.query_one(Suggestions)
        await window.pilot.press("/", "p")
        await window.until(lambda: suggested.current)
        await window.pilot.press("down", "down", "enter")
        assert window.pane.prompt.text == "/preset "
        await window.until(lambda: suggested.current is not None)
        await window.pilot.press("escape")
        await window.until(lambda: suggested.current is None)
        assert window.pane.prompt.text == "/preset "


async def test_a_chat_keeps_its_options(
    open_window: OpenWindow, store: ChatStore, engine: LocalEngine
) -> None:
    async with open_window(engine, max_tokens=4) as window:
        await window.send("/system Answer in one word.")
        await window.until(lambda: "“Answer in one word.” from" in window.pane.notice.text)
        await window.send("/top-k 3")
        await window.send("/seed 7")
        await window.send("/condition Code")
        await window.until(lambda: "condition is 'Code'" in window.pane.notice.text)
        await window.send("What colour is the sky?")
        await window.answered()
        (chat,) = store.chats()
        assert (chat.system_prompt, chat.condition) == ("Answer in one word.", "Code")
        assert chat.sampling == {"top_k": 3, "seed": 7}
        reply = store.branch(chat.id)[-1]
        assert reply.sampling is not None
        assert (reply.sampling["top_k"], reply.sampling["seed"]) == (3, 7)
        assert reply.condition == "Code"
        await window.send("/top-k default")
        await window.until(lambda: store.chat(chat.id).sampling == {"seed": 7})
        await window.send("/condition none")
        await window.until(lambda: store.chat(chat.id).condition == "")
        await window.pilot.press("ctrl+n")
        await window.send("/seed")
        await window.until(lambda: "a new one for each reply" in window.pane.notice.text)


async def test_a_preset_is_kept_in_the_settings_and_used_in_another_chat(
    open_window: OpenWindow, store: ChatStore
) -> None:
    async with open_window() as window:
        await window.send("/preset")
        await window.until(lambda: "There is no preset yet" in window.pane.notice.text)
        await window.send("/preset save brief")
        await window.until(lambda: "no options of its own" in window.pane.notice.text)
        await window.send("/system Be brief.")
        await window.send("/temperature 0.1")
        await window.send("/preset save brief")
        await window.until(lambda: "/preset brief gives" in window.pane.notice.text)
        await window.pilot.press("ctrl+n")
        await window.send("/preset bref")
        await window.until(lambda: "no preset 'bref': there are brief" in window.pane.notice.text)
        await window.send("/preset brief")
        await window.until(lambda: "options of the preset brief" in window.pane.notice.text)
        await window.send("Hello")
        await window.until(lambda: len(store.chats()) == 1)
    (chat,) = store.chats()
    assert (chat.system_prompt, chat.sampling) == ("Be brief.", {"temperature": 0.1})
    assert load_settings().presets["brief"].as_fields() == {
        "system_prompt": "Be brief.",
        "sampling": {"temperature": 0.1},
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [('model = "nowhere"', "no model named 'nowhere'"),
     ('adapter = "nothing"', "no model here")],
)  # fmt: skip
async def test_a_preset_that_cannot_be_had_changes_nothing_and_says_why(
    open_window: OpenWindow, store: ChatStore, wrong: str, says: str
) -> None:
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_text(f'[presets.wrong]\n{wrong}\nsystem_prompt = "Be brief."\n')
    async with open_window() as window:
        await window.send("/preset wrong")
        await window.until(lambda: says in window.pane.notice.text)
        await window.pilot.pause()
        assert says in window.pane.notice.text
        await window.send("/system")
        await window.until(lambda: "system prompt is the model's own" in window.pane.notice.text)


async def test_a_file_goes_along_with_the_prompt(
    open_window: OpenWindow, engine: LocalEngine, store: ChatStore, folder: Path
) -> None:
    (folder / "notes.txt").write_text("The sea is blue.\n" * 20, encoding="utf-8")
    async with open_window(engine, max_tokens=4) as window:
        attached = window.app.screen.query_one(AttachedFiles)
        await window.until(lambda: window.status.context)
        await window.write("Sum up @notes.txt and @missing.txt")
        await window.until(lambda: "@notes.txt  1" in str(attached.content), 10)
        assert "tokens" in str(attached.content)
        assert "@missing.txt is not there" in str(attached.content)
        await window.until(lambda: (window.status.tokens or 0) > 110, 10)
        window.pane.prompt.put("Sum up @notes.txt")
        await window.pilot.press("enter")
        await window.answered()
        await window.until(lambda: not attached.has_class("-shown"))
        (chat,) = store.chats()
        prompt = store.branch(chat.id)[0].content
        assert prompt.startswith("Sum up @notes.txt\n\nFile notes.txt:\n```txt\nThe sea")
        assert "▸ notes.txt  20 lines, 339 characters · o opens it" in window.screen_text()
        assert "The sea is blue." not in window.screen_text()
        await window.pilot.press("up")
        await window.until(lambda: window.pane.prompt.text == "Sum up @notes.txt")


async def test_a_word_with_an_at_that_cannot_be_attached_is_a_word(
    open_window: OpenWindow, engine: LocalEngine, store: ChatStore, folder: Path
) -> None:
    (folder / "dataclass").mkdir()
    (folder / "binary.dat").write_bytes(b"\0" * 10)
    text = "what does the alias @/ mean? And @dataclass, @binary.dat?"
    async with open_window(engine, max_tokens=1500) as window:
        attached = window.app.screen.query_one(AttachedFiles)
        await window.write(text)
        said = (
            "@/ is a folder, so it stays a word",
            "@dataclass is a folder",
            "@binary.dat is a binary file",
        )
        await window.until(lambda: all(each in str(attached.content) for each in said))
        await window.pilot.press("enter")
        await window.until(lambda: "@binary.dat is a binary file" in window.pane.notice.text)
        await window.until(lambda: [each.message_count for each in store.chats()] == [2])
        window.pane.stop()
        await window.until(lambda: not window.pane.busy)
        (chat,) = store.chats()
        assert store.branch(chat.id)[0].content == text


async def test_prompts_from_before_come_back_by_up(
    open_window: OpenWindow, store: ChatStore
) -> None:
    for prompt, private in (("oldest", False), ("secret", True), ("newest", False)):
        chat = store.new_chat(private=private)
        store.add_message(chat.id, None, "user", prompt)
    async with open_window() as window:
        await window.until(lambda: window.listed)
        prompt = window.pane.prompt
        await window.pilot.press("up")
        await window.until(lambda: prompt.text == "newest")
        await window.pilot.press("up", "up")
        assert prompt.text == "oldest"
        await window.pilot.press("down")
        assert prompt.text == "newest"
        await window.pilot.press("down")
        assert prompt.text == ""
        await window.pilot.press("down")
        await window.write("mine")
        await window.pilot.press("up")
        assert prompt.text == "mine"


async def open_first(window: Window, text: str) -> None:
    await window.until(lambda: window.listed)
    window.app.screen.query_one(ChatList).focus()
    await window.pilot.press("home", "enter")
    await window.until(lambda: text in window.screen_text())


async def test_a_chat_is_sorted_and_exported_by_commands(
    open_window: OpenWindow, store: ChatStore, folder: Path
) -> None:
    chat = store.new_chat()
    prompt = store.add_message(chat.id, None, "user", "Where to?")
    store.rate(store.add_message(chat.id, prompt.id, "assistant", "To Łódź.").id, 1)
    async with open_window() as window:
        await window.send("/pin")
        await window.until(lambda: "There is no chat yet" in window.pane.notice.text)
        await window.send("/private")
        await window.until(lambda: "/temporary begins one" in window.pane.notice.text)
        await window.send("/export")
        await window.until(lambda: "nothing to export" in window.pane.notice.text)
        await open_first(window, "Where to?")
        await window.send("/title Trip to ../Łódź [b]")
        await window.send("/tag travel #2026")
        await window.send("/pin")
        await window.until(lambda: store.chat(chat.id).pinned)
        assert store.chat(chat.id).title == "Trip to ../Łódź [b]"
        assert store.chat(chat.id).tags == ("2026", "travel")
        await window.send("/title page: which font?")
        await window.until(lambda: "Before: “Trip to ../Łódź [b]”" in window.pane.notice.text)
        await window.send("/title Trip to ../Łódź [b]")
        await window.send("/tag team")
        await window.until(lambda: "Before: “2026 travel”" in window.pane.notice.text)
        for target in ("", "", "chat.jsonl"):
            await window.send(f"/export {target}")
            await window.until(lambda: "The chat is in" in window.pane.notice.text)
        await window.send("/export chat.jsonl")
        await window.until(lambda: "is there already" in window.pane.notice.text)
        await window.send("/export chat.pdf")
        await window.until(lambda: ".jsonl to train on" in window.pane.notice.text)
    if os.name != "nt":
        assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert {file.name for file in folder.iterdir()} == {
        "Trip-to-Łódź-b.md",
        "Trip-to-Łódź-b-2.md",
        "chat.jsonl",
    }


async def test_help_lists_the_commands_too(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.send("/help")
        await window.until(lambda: isinstance(window.app.screen, Help))
        await window.pilot.press(*"preset", "escape")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
async def test_the_panel_shows_and_changes_the_options_of_the_chat(
    open_window: OpenWindow, store: ChatStore, size: tuple[int, int]
) -> None:
    chat = store.new_chat(title="held")
    store.add_message(chat.id, None, "user", "Where to?")
    async with open_window(size=size) as window:
        await open_first(window, "Where to?")
        await window.pilot.press("ctrl+t")
        panel = window.app.screen.query_one(OptionsPanel)
        assert panel.display
        assert panel.has_focus
        assert panel.has_class("-over") == (size[0] < 120)
        names = [name for name, *_ in panel._rows]

        async def change(name: str, *keys: str) -> None:
            panel.highlighted = names.index(name)
            await window.pilot.press("enter")
            await window.pilot.pause()
            await window.pilot.press(*keys)

        await change("temperature", *"0.125", "enter")
        await window.until(lambda: store.chat(chat.id).sampling == {"temperature": 0.125})
        assert "• temperature    0.125" in [str(option.prompt) for option in panel.options]
        await change("system", *"Be kind.", "enter", *"[b]", "ctrl+s")
        await window.until(lambda: store.chat(chat.id).system_prompt == "Be kind.\n[b]")
        await change("pin", "down", "escape")
        await window.until(lambda: panel.has_focus)
        assert not store.chat(chat.id).pinned
        await change("pin", "down", "enter")
        await window.until(lambda: store.chat(chat.id).pinned)
        await change("preset save", *"kind", "enter")
        await window.until(lambda: "kind" in load_settings().presets)
        await change("temperature", "ctrl+u", *"default", "enter")
        await window.until(lambda: store.chat(chat.id).sampling is None)
        await change("model")
        await window.until(lambda: isinstance(window.app.screen, ModelsScreen))
        await window.pilot.press("escape")
        await window.until(lambda: panel.has_focus)
        await window.pilot.press("escape")
        assert not panel.display
        assert window.pane.prompt.has_focus
