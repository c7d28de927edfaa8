"""What the Tab key completes: names that are on this machine.

Called by the shell at every press of Tab, so nothing heavy is imported, and whatever goes
wrong means no suggestions: a shell has no place for an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat

RECENT_CHATS = 50
# What OpenChat's own models were trained with.
KNOWN_CONDITIONS = ("GPT4 Correct", "Math Correct", "Code")

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Names = Callable[[], Iterable[tuple[str, str]]]


def _completer(names: Names, *, files: bool = False) -> Complete:
    """Completes what `names` gives, (name, help) each, in its order; with `files` also a path,
    where nothing of that name is there."""

    @wraps(names)
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        wanted = incomplete.casefold()
        try:
            found = [
                CompletionItem(name, help=text or None)
                for name, text in names()
                if name.casefold().startswith(wanted)
            ]
        except (OpenChatError, OSError):
            found = []
        # Of names and files together, bash would show the files alone.
        return found or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def _models() -> Iterator[tuple[str, str]]:
    from openchat_local.app.engine import installed_models
    from openchat_local.models.library import installed_path
    from openchat_local.models.library.catalog import catalog

    for known in catalog().values():
        if installed_path(known) is not None:
            yield known.name, known.title
    models = installed_models().models()
    several = [model.card.name for model in models]
    for model in models:
        card = model.card
        yield (card.reference if several.count(card.name) > 1 else card.name), card.quantisation
    for name, url in _engines():
        yield f"@{name}", url


def _fetchable() -> Iterator[tuple[str, str]]:
    from openchat_local.models.library.catalog import catalog

    yield from ((known.name, known.title) for known in catalog().values() if known.hub)


def _adapters() -> Iterator[tuple[str, str]]:
    from openchat_local.app.engine import installed_adapters

    yield from ((name, "") for name in installed_adapters().names())


def _engines() -> Iterator[tuple[str, str]]:
    from openchat_local.app.settings.model import load_settings_forgivingly
    from openchat_local.app.settings.remote_models import named_engines

    settings, _ = load_settings_forgivingly()
    yield from ((name, entry.url) for name, entry in named_engines(settings).items())


def _conditions() -> Iterator[tuple[str, str]]:
    from openchat_local.app.engine import installed_adapters

    library = installed_adapters()
    found = dict.fromkeys(KNOWN_CONDITIONS, "")
    for name in library.names():
        try:
            classes = library.info(name).file.card.classes
        except OpenChatError:
            continue
        found |= {each.condition: f"of {name}" for each in classes if each.condition}
    yield from found.items()


def _suites() -> Iterator[tuple[str, str]]:
    from openchat_local.app.suites import library

    yield from ((suite.name, suite.measures) for suite in library().catalogue.values())


def _kept_suites() -> Iterator[tuple[str, str]]:
    from openchat_local.app.suites import library

    kept = library()
    yield from ((name, text) for name, text in _suites() if kept.is_kept(name))


def _chats() -> Iterator[tuple[str, str]]:
    yield from ((chat.short_id, chat.title or "Untitled") for chat in _recent_chats())


def _recent_chats() -> list[Chat]:
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.paths import data_home

    home = data_home()
    if not (home / "chats.db").is_file():  # a press of Tab makes no files
        return []
    store = ChatStore.open(home)
    try:
        return list(store.chats(limit=RECENT_CHATS))
    finally:
        store.close()


complete_model = _completer(_models, files=True)
complete_fetchable = _completer(_fetchable)
complete_adapter = _completer(_adapters)
complete_adapter_or_file = _completer(_adapters, files=True)
complete_condition = _completer(_conditions)
complete_engine = _completer(_engines)
complete_suite = _completer(_suites)
complete_kept_suite = _completer(_kept_suites)
complete_chat = _completer(_chats)


class QuotingBashComplete(BashComplete):
    """bash inserts what it is given as it stands, so a blank in a name has to be escaped."""

    def format_completion(self, item: CompletionItem) -> str:
        value = str(item.value)
        for character in "\\ '\"&;()<>|$`":
            value = value.replace(character, f"\\{character}")
        return f"{item.type},{value}"
