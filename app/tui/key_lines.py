"""Every key that works, a line each: for F1, and for the palette."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, OptionList, TextArea

from openchat_local.app.tui.keys import GROUPS, Command, key_name

WRITTEN = "Written into the prompt"
EVERYWHERE = "Everywhere"


class KeyLine(NamedTuple):
    """`name` is the command's for the settings file; "" where the key cannot be another."""

    group: str
    keys: str
    meaning: str
    name: str = ""


# What is no binding: the prompt hears these keys itself, or they are Textual's own.
HEARD = (
    KeyLine(GROUPS["prompt"], "Up, Down", "In an empty prompt: what was asked before"),
    KeyLine(GROUPS["prompt"], "@", "Attach a file: @path, @report.pdf:3-7; @folder/ what suits"),
    KeyLine(GROUPS["prompt"], "/", "A command; // sends a slash"),
    KeyLine(GROUPS["prompt"], "Tab", "Take what is suggested"),
    KeyLine(GROUPS["prompt"], "Up, Down", "To another of what is suggested; Enter takes it"),
    KeyLine(GROUPS["prompt"], "Esc", "Close what is suggested"),
    KeyLine(EVERYWHERE, "Tab", "To the next part of the window"),
    KeyLine(EVERYWHERE, "Shift+Tab", "To the part before"),
    KeyLine(EVERYWHERE, "Ctrl+C, Super+C", "Copy what is selected, or stop the reply"),
)
PLACES = {
    "FindInput": GROUPS["find"],
    "OptionsPanel": "In the panel of a chat",
    "Help": "Among the keys",
    "Search": "In the search",
    "Confirm": "Asked yes or no",
    "EditReply": "In the editor of a reply or a system prompt",
    "AskLine": "In a field",
    "ChooseOne": "In a choice",
    "LeaveLearning": "Asked before it closes while it learns",
    "ChooseCode": "Among blocks of code",
    "GoingAlong": "Before files go along",
    "SettingsScreen": "In the settings",
    "LearnScreen": GROUPS["learn"],
    "OfferList": GROUPS["learn"],
    "LearnRules": "Among the rules of learning",
    "LearnInstall": "Installing what trains",
}
"""Where the keys of a class work that have no name for the settings file."""
OF_THE_LIBRARY: tuple[tuple[str, type[Widget]], ...] = (
    ("In every list", OptionList),
    ("In every line to write into", Input),
    ("Moving and deleting in the prompt", TextArea),
)


def key_lines(commands: Iterable[Command], slash: Iterable[tuple[str, str]] = ()) -> list[KeyLine]:
    """All keys, under their groups. `slash` are the commands that are written, and what they
    do."""
    commands = list(commands)
    lines = [
        *(KeyLine(each.group, spoken(each), each.description, each.id) for each in commands),
        *HEARD,
        *(KeyLine(WRITTEN, usage, summary) for usage, summary in slash),
        *_unnamed(),
        *_of_the_library(commands),
    ]
    groups = list(dict.fromkeys(line.group for line in lines))
    return sorted(lines, key=lambda line: groups.index(line.group))


def spoken(command: Command) -> str:
    """The keys of a command as they are pressed: "n", "Shift+N", "Ctrl+N"."""
    return ", ".join(map(_spoken, command.keys))


def _spoken(key: str) -> str:
    if len(key) == 1 and key.isalpha():
        return key if key.islower() else f"Shift+{key}"
    return key_name(key)


def _unnamed() -> Iterator[KeyLine]:
    """The keys of this program that have no name, in the place where they work."""
    for owner in ours(DOMNode):
        bindings = Binding.make_bindings(owner.__dict__.get("BINDINGS", ()))
        mine = [each for each in bindings if each.id is None]
        yield from _joined(PLACES.get(owner.__name__, owner.__name__), mine)


def _of_the_library(commands: Iterable[Command]) -> Iterator[KeyLine]:
    """What lists and lines do by themselves, and the prompt where no key of the window comes
    before it."""
    taken = {key for command in commands if _above_all(command.owner) for key in command.keys}
    for place, owner in OF_THE_LIBRARY:
        bindings = Binding.make_bindings(owner.__dict__["BINDINGS"])
        free = [each for each in bindings if owner is not TextArea or each.key not in taken]
        yield from _joined(place, free)


def _joined(place: str, bindings: Iterable[Binding]) -> Iterator[KeyLine]:
    """A line for each meaning, with all its keys."""
    keys: dict[str, list[str]] = {}
    for binding in bindings:
        keys.setdefault(binding.description, []).append(_spoken(binding.key))
    for meaning, names in keys.items():
        yield KeyLine(place, ", ".join(names), meaning)


def _above_all(owner: type[DOMNode]) -> bool:
    return issubclass(owner, Screen) or not (issubclass(owner, Widget) and owner.can_focus)


def ours(base: type[DOMNode]) -> Iterator[type[DOMNode]]:
    """Every class of this program's window below `base`, of those that were imported."""
    package = __name__.rpartition(".")[0]
    for subclass in base.__subclasses__():
        if subclass.__module__.startswith(package):
            yield subclass
        yield from ours(subclass)
