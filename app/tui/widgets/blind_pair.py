"""Two replies beside or above one another, of which nothing tells who wrote them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from openchat_local.app.tui.markdown.thoughts import FoldLine
from openchat_local.app.tui.widgets.transcript import Transcript

if TYPE_CHECKING:
    from openchat_local.app.chats import Choice, StoredMessage

BESIDE_FROM_COLUMNS = 100
"""With less, lines of two replies side by side are too short to be read."""
KEYS: dict[str, Choice] = {"1": "first", "2": "second", "=": "tie", "0": "bad", "s": "skip"}
ASKED = "Which is better?  1 · 2 · = both alike · 0 both bad · s skip — then Enter"
MEANT: dict[Choice, str] = {
    "first": "Enter: 1 is better",
    "second": "Enter: 2 is better",
    "tie": "Enter: both are alike",
    "bad": "Enter: both are bad",
    "skip": "Enter: no vote on these two",
}


def choice_of(text: str) -> Choice | None:
    """What a key says that stands alone in the prompt."""
    return KEYS.get(text.strip().casefold())


class PairPane(Transcript):
    """One of the two. It shows text and nothing else: no message is selected in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "vote('first')", "The first is better", id="compare.first"),
        Binding("2", "vote('second')", "The second is better", id="compare.second"),
        Binding("equals_sign", "vote('tie')", "Both are alike", id="compare.tie"),
        Binding("0", "vote('bad')", "Both are bad", id="compare.bad"),
        Binding("s", "vote('skip')", "No vote on these two", id="compare.skip"),
    ]

    class Voted(Message):
        """The user says what they think of the pair."""

        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

    def begin(self, message: StoredMessage) -> None:
        """An empty reply, of which nothing is known but that it is one."""
        nobody = replace(
            message, id="pair", parent_id=None, content="", model=None,
            adapter=None, condition=None, template=None, usage=None, rating=None,
            finish_reason=None, sampled=None, sibling=1, siblings=1,
        )  # fmt: skip
        self.show_turns(())
        self.begin_reply(nobody)

    def select(self, message_id: str | None) -> None:
        """Nothing: keys would act on it."""

    def action_step(self, direction: int) -> None:
        """Scroll by a row."""
        self.scroll_relative(y=direction, animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing is selected here, and thoughts open all the same."""
        return True if action == "fold" else super().check_action(action, parameters)

    def action_fold(self) -> None:
        """Open what this one thought, or fold it."""
        self.fold_thoughts()

    def action_vote(self, choice: Choice) -> None:
        self.post_message(self.Voted(choice))

    def on_click(self, event: events.Click) -> None:
        event.prevent_default()  # which would select
        place = self.laid_out.place(self.scroll_offset.y + event.y)
        if place.section < 0 or event.chain > 1:
            return
        if isinstance(self.laid_out.sections[place.section].blocks[place.block], FoldLine):
            self.fold_thoughts()


class Framed(Container):
    """A pane below its number: a transcript paints every cell itself, and knows no border."""

    DEFAULT_CSS = """
    Framed {
        width: 1fr;
        height: 1fr;
        min-height: 3;
        border-top: solid $foreground 30%;
        border-title-color: $foreground;
        border-title-style: bold;
        &:focus-within { border-top: solid $primary; }
        &.-meant { border-top: heavy $primary; }
    }
    Framed > PairPane { height: 1fr; }
    """

    def __init__(self, number: int, pane: PairPane) -> None:
        super().__init__(pane)
        self.border_title = str(number)


class BlindPair(Container):
    """Hidden while nothing is compared. Both replies are shown alike; who they are of is not
    known here."""

    BLANK = True
    DEFAULT_CSS = """
    BlindPair {
        display: none;
        height: 3fr;
        layout: vertical;
        &.-shown { display: block; }
        &.-stacked { height: 5fr; }
    }
    BlindPair > Container { height: 1fr; layout: horizontal; }
    BlindPair.-stacked > Container { layout: vertical; }
    BlindPair > Static { height: auto; padding: 0 2; color: $text-primary; background: $surface; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.panes = (PairPane(), PairPane())
        self._frames = tuple(Framed(number, pane) for number, pane in enumerate(self.panes, 1))
        self._hint = Static(markup=False)
        self._held = ["", ""]
        self.texts = ("", "")
        """What is shown of both."""

    def compose(self) -> ComposeResult:
        yield Container(*self._frames)
        yield self._hint

    @property
    def shown(self) -> bool:
        return self.has_class("-shown")

    def begin(self, message: StoredMessage) -> None:
        """Show two empty replies; `message` lends its shape alone."""
        self._held, self.texts = ["", ""], ("", "")
        for pane in self.panes:
            pane.begin(message)
        self.mean(None)
        self.add_class("-shown")

    def grow(self, texts: tuple[str, str]) -> None:
        """More of both."""
        self.texts = (self.texts[0] + texts[0], self.texts[1] + texts[1])
        for side, pane in enumerate(self.panes):
            text = self._held[side] + texts[side]
            # Half of a Windows line end, perhaps.
            self._held[side] = "\r" if text.endswith("\r") else ""
            if text := text.removesuffix("\r"):
                pane.grow_reply(text)

    def mean(self, choice: Choice | None) -> None:
        """Show what Enter would say; None: ask which is better."""
        self._hint.update(Content(ASKED if choice is None else MEANT[choice]))
        meant = {"first": (True, False), "second": (False, True), "tie": (True, True)}
        marks = meant.get(choice or "", (False, False))
        for frame, mark in zip(self._frames, marks, strict=True):
            frame.set_class(mark, "-meant")

    def hide(self) -> None:
        """Nothing is compared here."""
        self.texts = ("", "")
        self.remove_class("-shown")

    def page(self, direction: int) -> None:
        """Scroll both by a screenful."""
        for pane in self.panes:
            pane.page(direction)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < BESIDE_FROM_COLUMNS, "-stacked")
