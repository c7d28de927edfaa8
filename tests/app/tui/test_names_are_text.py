"""Titles, tags, names of files and of models, settings, excerpts: shown, never obeyed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.pilot import Pilot
from textual.widgets import Input

from openchat_local.app.chats import ChatStore, SearchHit
from openchat_local.app.settings.model import Settings, load_settings
from openchat_local.app.settings.per_chat import effective_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.keys import Command
from openchat_local.app.tui.questions.line import AskLine
from openchat_local.app.tui.screens.help import Help
from openchat_local.app.tui.screens.search import Find, Search, line_of
from openchat_local.app.tui.screens.settings import SettingsScreen
from openchat_local.app.tui.widgets.attached_files import AttachedFiles
from openchat_local.app.tui.widgets.chat_list import ChatList, title_of
from openchat_local.app.tui.widgets.options_panel import OptionsPanel
from openchat_local.app.tui.widgets.suggestions import Suggestion, Suggestions
from support.hostile import HOSTILE, PIECES, check_screen, obeyed
from support.window import NO_ENGINE

ALL = "".join(PIECES)


@settings(max_examples=300, deadline=None)
@given(HOSTILE, HOSTILE, st.integers(20, 120), st.data())
def test_an_excerpt_is_text_whatever_was_found(
    title: str, snippet: str, width: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(snippet)))
    hit = SearchHit("c", title, False, "m", "user", 0.0, snippet, ((start, len(snippet)),))
    line = line_of(hit, width, time.time())
    assert not obeyed(line.plain.replace("\n", ""))
    assert line.plain.count("\n") == 1


@pytest.fixture
def hostile_home(home: Path) -> Path:
    """A home in which everything that has a name has a hostile one."""
    store = ChatStore.open(home)
    for text in (*PIECES, ALL):
        chat = store.new_chat(
            title=text, system_prompt=text, model=text, condition=text, adapter=None
        )
        store.add_message(chat.id, None, "user", f"word {text}")
        store.set_draft(chat.id, text)
    store.close()
    return home


async def test_whatever_has_a_name_is_text_on_every_screen(hostile_home: Path) -> None:
    base = load_settings()
    wanted = base.model_copy(
        update={"model": ALL, "system_prompt": ALL, "condition": ALL, "template": ALL}
    )
    app = ChatApp(hostile_home, wanted, NO_ENGINE, [f"The setting {ALL} is wrong."])
    async with app.run_test(size=(120, 50)) as pilot:
        chats = app.screen.query_one(ChatList)
        while not chats.option_count:
            await pilot.pause()
        check_screen(app)
        assert all(not obeyed(title_of(chat)) for chat in chats.chats)
        await pilot.press("ctrl+t")
        await _panel(app, pilot, wanted)
        app.screen.query_one(Suggestions).show([Suggestion(ALL, ALL, ALL, 1), _file(ALL)])
        app.screen.query_one(AttachedFiles).show([f"@{ALL}  3 tokens", ALL])
        await pilot.pause()
        check_screen(app)
        for screen in (
            Search(_no_store(chats)),
            AskLine("Title", ALL, ALL),
            Help([Command("chat.x", ALL, ("f1",), "x", ChatApp)], [(ALL, ALL)]),
            SettingsScreen(wanted, lambda _: None),
        ):
            app.push_screen(screen)
            await pilot.pause()
            check_screen(app)
            app.pop_screen()
        await pilot.press("ctrl+k", *"word")
        await pilot.pause()
        assert app.screen.query_one(Input).value == "word"
        check_screen(app)
        await pilot.press("escape")
        await app.run_action("quit")


async def _panel(app: ChatApp, pilot: Pilot[None], wanted: Settings) -> None:
    panel = app.screen.query_one(OptionsPanel)
    for text in (*PIECES, ALL):
        fields = dict.fromkeys(("model", "adapter", "condition", "system_prompt"), text)
        chat = replace(app.screen.query_one(ChatList).chats[0], title=text, tags=(text,))
        panel.show(effective_settings(wanted, fields), chat, None, [text])
        await pilot.pause()
        check_screen(app)


def _file(name: str) -> Suggestion:
    return Suggestion(name, "", f"@{name}", 1)


def _no_store(chats: ChatList) -> Find:
    """A search that finds every chat, by its hostile title."""

    async def find(query: str) -> list[SearchHit]:
        return [
            SearchHit(each.id, each.title, True, None, None, 0.0, each.title, ((0, 1),))
            for each in chats.chats[:50]
        ]

    return find
