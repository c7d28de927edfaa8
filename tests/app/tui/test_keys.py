"""Keys: listed, searched and remapped, with every conflict told."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.binding import Binding
from textual.command import CommandPalette
from textual.dom import DOMNode
from textual.widgets import Static

from openchat_local.app.settings.model import load_settings_forgivingly
from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.key_lines import key_lines
from openchat_local.app.tui.key_lines import ours as key_lines_of
from openchat_local.app.tui.keys import GROUPS, declared, is_key, key_name, remapped
from openchat_local.app.tui.palette import palette_commands
from openchat_local.app.tui.screens.help import Help, page
from support.window import NO_ENGINE, OpenWindow


def problems_with(home: Path, text: str) -> tuple[ChatApp, list[str]]:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text, encoding="utf-8")
    settings, problems = load_settings_forgivingly()
    app = ChatApp(home, settings, NO_ENGINE, problems)
    return app, app.problems


def keys_of(app: ChatApp, name: str) -> tuple[str, ...]:
    return next(command.keys for command in app.commands if command.id == name)


def test_every_command_has_a_name_of_its_own_and_says_what_it_does() -> None:
    commands = declared()
    assert {"chat.new", "prompt.send", "window.keys"} <= {command.id for command in commands}
    assert all(command.description and "." in command.id for command in commands)
    assert set(Counter(command.id for command in commands).values()) == {1}


def test_no_two_commands_that_can_meet_share_a_key() -> None:
    commands = declared()
    asked = {command.id: ",".join(command.keys) for command in commands}
    _, problems = remapped(commands, asked, lambda name: name)
    assert [problem for problem in problems if "two commands" in problem] == []


def test_a_key_is_remapped_and_two_may_be_swapped(home: Path) -> None:
    app, problems = problems_with(home, '[keys]\n"chat.new" = "ctrl+d"\nchat.delete = "CTRL+N"\n')
    assert problems == []
    assert keys_of(app, "chat.new") == ("ctrl+d",)
    assert keys_of(app, "chat.delete") == ("ctrl+n",)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('"chat.new" = "ctrl+d"', "gives Ctrl+D to two commands, the other is chat.delete"),
        ('"chat.nwe" = "f5"', "is no command; F1 lists them all, chat.new"),
        ('"chat.new" = "ctrl+bananas"', "names 'ctrl+bananas', which is no key"),
        ('"chat.new" = "x"', "a character that you write with"),
        ('"chat.new" = ","', "names no key"),
        ('"chat.new" = 7', "cannot be 7: it is a text"),
    ],
)
def test_a_wish_that_cannot_be_granted_names_its_line_and_changes_nothing(
    home: Path, line: str, says: str
) -> None:
    app, problems = problems_with(home, f"[keys]\n\n{line}\n")
    (problem,) = problems
    assert problem.startswith(f"{home / 'config.toml'}, line 3, keys.chat.n")
    assert says in problem
    assert keys_of(app, "chat.new") == ("ctrl+n",)


async def test_a_remapped_key_works_and_its_old_one_does_not(
    open_window: OpenWindow, home: Path
) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[keys]\n"window.keys" = "f10"\n', encoding="utf-8")
    async with open_window() as window:
        await window.pilot.press("f1")
        assert not isinstance(window.app.screen, Help)
        await window.pilot.press("f10")
        assert isinstance(window.app.screen, Help)
        await window.pilot.press(*"all keys")
        assert "F10" in str(window.app.screen.query_one(Static).content)
        await window.pilot.press("escape")


async def test_enter_and_ctrl_j_change_places_as_set(open_window: OpenWindow, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[tui]\nenter = "newline"\n', encoding="utf-8")
    async with open_window() as window:
        await window.until(lambda: window.pane.notice.text)
        assert "Ctrl+J sends" in str(window.pane.prompt.placeholder)
        await window.write("one")
        await window.pilot.press("enter", *"two")
        assert window.pane.prompt.text == "one\ntwo"
        await window.pilot.press("ctrl+j")
        await window.until(lambda: "two" in window.screen_text())
        assert window.pane.prompt.text == ""


async def test_wrong_settings_are_told_in_the_window_which_works(home: Path) -> None:
    app, _ = problems_with(home, "context = -1\n[sampling]\ntop_p = 3\n")
    async with app.run_test(size=(120, 40)) as pilot:
        from support.window import Window

        window = Window(app, pilot)
        await window.until(lambda: "line 3, sampling.top_p" in window.pane.notice.text)
        assert "line 1, context" in window.pane.notice.text
        await window.write("still here")
        assert window.pane.prompt.text == "still here"
        await app.run_action("quit")


NO_USE = {"ctrl+pageup", "ctrl+pagedown"}
"""Textual's keys for scrolling sideways, which nothing here does."""


def test_every_key_that_works_is_listed() -> None:
    lines = key_lines(declared())
    listed = {key.casefold() for line in lines for key in line.keys.split(", ")}
    works = {
        binding.key
        for owner in key_lines_of(DOMNode)
        for base in owner.__mro__
        for binding in Binding.make_bindings(base.__dict__.get("BINDINGS", ()))
        if not binding.id or binding.id.partition(".")[0] in GROUPS
    }
    assert {"tab", "ctrl+s", "delete", "escape", "ctrl+c", "N", "n"} <= works
    spelt = {key: f"Shift+{key}" if key.isupper() else key_name(key) for key in works - NO_USE}
    assert {key for key, name in spelt.items() if name.casefold() not in listed} == set()


def test_keys_that_are_no_bindings_are_listed_where_they_work() -> None:
    lines = {(line.group, line.keys): line.meaning for line in key_lines(declared())}
    writing = ("Up, Down", "@", "Tab")
    assert {("In the settings", "Del"), *(("Writing", keys) for keys in writing)} <= lines.keys()
    assert lines["In the editor of a reply or a system prompt", "Ctrl+S"] == "Save"
    assert "above" in lines["Finding in the chat", "n"]
    assert "below" in lines["Finding in the chat", "Shift+N"]
    assert all(line.meaning for line in key_lines(declared()))
    assert all(" " in line.group or line.group.istitle() for line in key_lines(declared()))


@pytest.mark.parametrize("width", [72, 88])
@pytest.mark.parametrize("names", [True, False])
def test_no_line_of_the_keys_overruns(width: int, *, names: bool) -> None:
    lines = key_lines(declared(), [("/repeat-penalty [NUMBER]", "words and " * 20)])
    rows = page(lines, width, names=names).plain.split("\n")
    assert max(map(cell_len, rows)) <= width
    assert any("message.step-up" in row for row in rows) == names


async def test_the_palette_says_nothing_twice_and_no_name_of_ours(open_window: OpenWindow) -> None:
    async with open_window() as window:
        commands = list(palette_commands(window.app, window.app.screen))
        titles = Counter(command.title for command in commands)
        assert {title for title, count in titles.items() if count > 1} == set()
        assert {"Another answer", "Continue a cut reply", "Copy the last reply"} <= titles.keys()
        assert "Answer it again" not in titles
        names = {command.id for command in declared()}
        assert not any(name in command.help for command in commands for name in names)


async def test_the_keys_are_searched_by_writing(open_window: OpenWindow) -> None:
    async with open_window(size=(80, 24)) as window:
        await window.pilot.press("f1")
        text = window.app.screen.query_one(Static)
        assert "Send the prompt" in str(text.content)
        await window.pilot.press(*"delete chat")
        assert "Ctrl+D" in str(text.content)
        assert "Send the prompt" not in str(text.content)
        assert "chat.delete" not in str(text.content)
        await window.pilot.press("tab")
        assert "chat.delete" in str(text.content)
        await window.pilot.press(*" nonsense")
        assert "No key does that." in str(text.content)
        await window.pilot.press("escape")
        assert window.pane.prompt.text == ""


async def test_the_palette_runs_what_the_keys_run(open_window: OpenWindow) -> None:
    async with open_window() as window:
        await window.write("draft")
        await window.until(lambda: window.listed)
        await window.in_palette("new chat", "New chat")
        await window.until(lambda: window.pane.prompt.text == "")
        assert len(window.listed) == 1
        assert not CommandPalette.is_open(window.app)


async def test_a_theme_that_was_chosen_is_kept(open_window: OpenWindow, home: Path) -> None:
    async with open_window() as window:
        window.app.theme = "nord"
        await window.until((home / "config.toml").exists)
        assert 'theme = "nord"' in (home / "config.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "name"),
    [("ctrl+n", "Ctrl+N"), ("f1", "F1"), ("escape", "Esc"), ("question_mark", "?"), ("up", "Up")],
)
def test_keys_are_named_as_on_a_keyboard(key: str, name: str) -> None:
    assert is_key(key)
    assert key_name(key) == name


@pytest.mark.parametrize(
    ("keys", "then"),
    [({}, "'version.use' in ids(app.all_commands())"), ({"version.use": "ctrl+y"}, "not problems")],
)
def test_keys_of_screens_that_were_not_imported_yet(
    home: Path, keys: dict[str, str], then: str
) -> None:
    # In a process of its own, since these tests have imported them.
    code = f"""
from pathlib import Path
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.keys import declared
def ids(commands): return {{each.id for each in commands}}
assert "version.use" not in ids(declared())
app = ChatApp(Path({str(home)!r}), load_settings({{"keys": {keys!r}}}), None)
problems = app.problems
assert {then}, problems
"""
    subprocess.run([sys.executable, "-P", "-c", code], check=True)
