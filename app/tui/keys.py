"""Which key does what: gathered from the bindings themselves, remapped by the settings.

Every binding of ours has an id, "group.what", that is the same in all versions. The group
says where F1 and the command palette list it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from textual import events
from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, format_key
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import TextArea

from openchat_local.app.tui.one_by_one import OneByOne, is_writing

GROUPS = {
    "prompt": "Writing",
    "reply": "Replies",
    "message": "A message, with the focus in the chat",
    "compare": "Comparing blind, with the focus on a reply of the pair",
    "find": "Finding in the chat",
    "chat": "Chats",
    "list": "In the list of chats",
    "model": "Models",
    "learn": "Choosing what the model learns from",
    "training": "While it learns, on the screen of that",
    "version": "Versions of what answers",
    "window": "The window",
}
"""In the order of F1; a group that is not here comes last, under its own name."""

MODIFIERS = frozenset({"ctrl", "shift", "alt", "super", "hyper", "meta"})
_NAMED = frozenset(key.value for key in Keys)
_WORDS = {
    "escape": "Esc",
    "enter": "Enter",
    "space": "Space",
    "backspace": "Backspace",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "delete": "Del",
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A binding in force: its id, what it does, the keys, and the class that it belongs to."""

    id: str
    description: str
    keys: tuple[str, ...]
    action: str
    owner: type[DOMNode]

    @property
    def group(self) -> str:
        """The heading under which it is listed."""
        prefix = self.id.partition(".")[0]
        return GROUPS.get(prefix, prefix.capitalize())

    @property
    def key_names(self) -> str:
        """The keys as a person reads them: "Ctrl+N, F2"."""
        return ", ".join(map(key_name, self.keys))


class KeyedApp(App[None]):
    """An app that knows its commands."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Command] = declared()
        self.problems: list[str] = []
        self._keys = OneByOne(self)

    async def on_event(self, event: events.Event) -> None:
        """No key overtakes another."""
        if isinstance(event, (events.Key, events.Paste)) and not event.is_forwarded:
            await self._keys.take(partial(self.take_in, event), writes=is_writing(event))
        else:
            await super().on_event(event)

    async def take_in(self, event: events.Key | events.Paste) -> None:
        """Deal with a key or a paste whose turn it is."""
        await super().on_event(event)

    async def after_keys(self, then: Callable[[], Awaitable[None]]) -> None:
        """Do something when every key that was pressed until now has had its effect."""
        await self._keys.take(then)

    def all_commands(self) -> list[Command]:
        """Every command, to be listed. For an app that imports some of its screens late, those
        of these too."""
        return self.commands

    def remap(self, wanted: Mapping[str, str], where: Callable[[str], str]) -> list[str]:
        """Give commands the keys that the user wants; returns a sentence for each problem."""
        first = {command.id: command.keys for command in declared()}
        self.commands, problems = remapped(declared(), wanted, where)
        changed = {each.id: each.keys for each in self.commands if each.keys != first[each.id]}
        self.set_keymap({name: ",".join(keys) for name, keys in changed.items()})
        return problems

    def action_of(self, owner: type[DOMNode], key: str) -> str | None:
        """What `key` does by a binding of `owner` itself."""
        for command in self.commands:
            if command.owner is owner and key in command.keys:
                return command.action
        return None


def key_of(app: App[Any], name: str) -> str:
    """The first key of a command as a person reads it; "" if there is no such command."""
    commands = app.commands if isinstance(app, KeyedApp) else ()
    return next((key_name(each.keys[0]) for each in commands if each.id == name), "")


def key_name(key: str) -> str:
    """A key as it stands on a keyboard: "ctrl+n" → "Ctrl+N"."""
    *modifiers, last = key.split("+")
    word = _WORDS.get(last) or format_key(last)
    return "+".join((*(each.capitalize() for each in modifiers), word[:1].upper() + word[1:]))


def declared() -> list[Command]:
    """Every binding with an id of every class of this program, with its first keys.

    Classes of screens that were never imported are not known and cannot be pressed either.
    """
    found: dict[str, Command] = {}
    for owner in _our_classes(DOMNode):
        for binding in Binding.make_bindings(owner.__dict__.get("BINDINGS", ())):
            if binding.id is None:
                continue
            known = found.get(binding.id)
            keys = (*known.keys, binding.key) if known else (binding.key,)
            found[binding.id] = Command(
                binding.id, binding.description, keys, binding.action, owner
            )
    order = {group: number for number, group in enumerate(GROUPS)}
    return sorted(found.values(), key=lambda each: order.get(each.id.partition(".")[0], 99))


def _our_classes(base: type[DOMNode]) -> Iterator[type[DOMNode]]:
    ours = __name__.rpartition(".")[0]
    for subclass in base.__subclasses__():
        if subclass.__module__.startswith(ours):
            yield subclass
        yield from _our_classes(subclass)


def remapped(
    commands: Iterable[Command], wanted: Mapping[str, str], where: Callable[[str], str]
) -> tuple[list[Command], list[str]]:
    """The commands with the keys that the user wants, and one sentence for each wish that
    cannot be granted: those keep the keys they have. `where` says where an id is set."""
    in_force = {command.id: command for command in commands}
    problems = []
    granted = {}
    for name, keys in wanted.items():
        chosen = tuple(_spelt(key.strip()) for key in keys.split(",") if key.strip())
        if name not in in_force:
            problems.append(_unknown(where(name), name, in_force))
        elif bad := [key for key in chosen if not is_key(key)]:
            problems.append(
                f"{where(name)} names {bad[0]!r}, which is no key; write it like ctrl+t or f6."
            )
        elif not chosen:
            problems.append(f"{where(name)} names no key; name one, or remove the line.")
        elif _takes_letters(in_force[name].owner, chosen):
            problems.append(
                f"{where(name)} is a character that you write with; add ctrl+, or take an F key."
            )
        else:
            granted[name] = replace(in_force[name], keys=chosen)
    # All wishes first: two commands may swap their keys.
    in_force |= granted
    for name in granted:
        if clash := _clash(in_force[name], in_force.values()):
            key, other = clash
            problems.append(
                f"{where(name)} gives {key_name(key)} to two commands, the other is {other}; "
                "give one of them another key."
            )
            in_force[name] = next(each for each in commands if each.id == name)
    return list(in_force.values()), problems


def _spelt(key: str) -> str:
    """A key as Textual spells it: a single letter may be a capital one, names are small."""
    return key if len(key) == 1 else key.lower()


def is_key(key: str) -> bool:
    """Whether Textual has a key of this name."""
    *modifiers, last = key.split("+") if key != "+" else ["+"]
    if not last or not MODIFIERS.issuperset(modifiers):
        return False
    if len(last) == 1 or last in _NAMED or last in KEY_NAME_REPLACEMENTS.values():
        return True
    try:
        unicodedata.lookup(last.replace("_", " "))
    except KeyError:
        return False
    return True


def _takes_letters(owner: type[DOMNode], keys: Iterable[str]) -> bool:
    """Whether the binding would take one of the keys away from the prompt."""
    everywhere = not _can_focus(owner) or issubclass(owner, TextArea)
    in_the_way = issubclass(owner, App) or (_scope(owner) == "" and everywhere)
    return in_the_way and any(len(key) == 1 or key in ("space", "backspace") for key in keys)


def _clash(command: Command, commands: Iterable[Command]) -> tuple[str, str] | None:
    for other in commands:
        if other.id != command.id and _meet(command.owner, other.owner):
            for key in command.keys:
                if key in other.keys:
                    return key, other.id
    return None


def _meet(one: type[DOMNode], other: type[DOMNode]) -> bool:
    """Whether bindings of these classes can be in force at the same moment."""
    if one is other or issubclass(one, App) or issubclass(other, App):
        return True
    # Of two widgets that take the focus only one has it; what they lie on is below both.
    return _scope(one) == _scope(other) and not (_can_focus(one) and _can_focus(other))


def _scope(owner: type[DOMNode]) -> str:
    """A screen above the chat window; "" for the window and what is on it."""
    return owner.__qualname__ if issubclass(owner, ModalScreen) else ""


def _can_focus(owner: type[DOMNode]) -> bool:
    return issubclass(owner, Widget) and not issubclass(owner, Screen) and owner.can_focus


def _unknown(where: str, name: str, known: Mapping[str, Command]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:3]
    return f"{where} is no command; F1 lists them all, {', '.join(near)} among them."
