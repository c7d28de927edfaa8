"""Nothing here can train yet: what can be installed, how large it is, and installing it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from openchat_local.app.printable import one_line, printable
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.tui.widgets.notice import ERROR
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.learning.backends import Extra, Installing

ABOUT = (
    "Chatting needs no more than there is; to train, one of these libraries is installed, once. "
    "It is fetched from the index of Python packages, and nothing of yours goes there."
)


class LearnInstall(ModalScreen[bool]):
    """Gives whether something was installed."""

    DEFAULT_CSS = """
    LearnInstall { align: center middle; }
    LearnInstall > Vertical {
        width: 92;
        max-width: 96%;
        height: auto;
        max-height: 90%;
        padding: 0 2;
        border: round $primary;
        background: $surface;
    }
    LearnInstall OptionList {
        height: auto;
        border: none;
        padding: 0;
        background: $surface;
        & > .option-list--option-highlighted { background: $foreground 12%; text-style: none; }
        &:focus { border: none; }
    }
    LearnInstall Static { height: auto; margin-bottom: 1; }
    LearnInstall Static.-error { color: $text-error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close, and stop what is being installed"),
    ]

    class Told(Message):
        """What the installer says; `ended` is its last word, with what went wrong in it."""

        def __init__(self, line: str, *, ended: bool = False, problem: str = "") -> None:
            super().__init__()
            self.line = line
            self.ended = ended
            self.problem = problem

    def __init__(self) -> None:
        super().__init__()
        self._extras: list[Extra] = []
        self._installing: Installing | None = None

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = "Nothing that can train is installed"
            box.border_subtitle = "Enter installs · Esc closes"
            yield Static(Content(ABOUT), markup=False)
            yield OptionList(markup=False)
            yield Static(id="told", markup=False)

    def on_mount(self) -> None:
        from openchat_local.app.learning.backends import extras

        self._extras = extras()
        options = self.query_one(OptionList)
        options.add_options(Option(_lines(extra)) for extra in self._extras)
        options.highlighted = 0
        options.focus()

    @work(exclusive=True)
    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        from openchat_local.app.learning.backends import Installing, can_install

        event.stop()
        extra = self._extras[event.option_index]
        if self._installing is not None:
            return
        if not can_install():
            self._tell(
                f"There is no pip here to do it: write it yourself: {extra.command}", error=True
            )
        elif await self.app.push_screen_wait(
            Confirm(f"Install {extra.name} ({extra.size}) with:\n{extra.command}")
        ):
            self._installing = Installing(extra)
            self._tell("It is being fetched …")
            threading.Thread(
                target=self._install, args=(self._installing,), name="install", daemon=True
            ).start()

    def _install(self, installing: Installing) -> None:
        problem = ""
        try:
            installing.run(lambda line: self._post(self.Told(line)))
        except OpenChatError as error:
            problem = str(error)
        self._post(self.Told("", ended=True, problem=problem))

    def _post(self, message: Message) -> None:
        self.post_message(message)

    def on_learn_install_told(self, message: Told) -> None:
        if not message.ended:
            self._tell(message.line[:300])
        elif message.problem:
            self._installing = None
            self._tell(message.problem, error=True)
        else:
            self.dismiss(True)

    def _tell(self, sentence: str, *, error: bool = False) -> None:
        told = self.query_one("#told", Static)
        told.set_class(error, "-error")
        told.update(Content(f"{ERROR if error else ''}{printable(sentence)}"))

    def action_close(self) -> None:
        self.dismiss(False)

    def on_unmount(self) -> None:
        if self._installing is not None:
            self._installing.end()


def _lines(extra: Extra) -> Content:
    return Content.assemble(
        (f"{extra.name}, {extra.size}\n", "bold"), (f"  {one_line(extra.command)}", "dim")
    )
