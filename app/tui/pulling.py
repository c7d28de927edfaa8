"""A model on its way here, fetched in a thread while the window goes on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.models.hub.download import Progress
from openchat_local.models.hub.faults import PullCancelled
from openchat_local.models.hub.pull import Chosen, Event

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from openchat_local.models.library import InstalledModel


class PullEnded(Message):
    """A model has been fetched, or not: the pull knows which."""

    def __init__(self, pull: Pull) -> None:
        super().__init__()
        self.pull = pull


class Pull:
    """What is fetched and how far it is; `window` gets a `PullEnded`. The attributes are
    written by the thread and may be read at any time."""

    def __init__(self, name: str, window: MessagePump) -> None:
        """`name` is what `models pull` takes."""
        self.name = name
        self.reference = name
        self.progress: Progress | None = None
        self.model: InstalledModel | None = None
        self.problem: Exception | None = None
        self._window = window
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pull", daemon=True)

    def start(self) -> None:
        """Begin, or go on with what came earlier."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop; what came is kept."""
        self._stop.set()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Asked to stop, and waiting for a server that is silent."""
        return self.running and self._stop.is_set()

    @property
    def cancelled(self) -> bool:
        return isinstance(self.problem, PullCancelled)

    def _run(self) -> None:
        from openchat_local.app.engine import installed_models
        from openchat_local.app.settings.model import load_settings_forgivingly
        from openchat_local.models.hub.client import Hub
        from openchat_local.models.hub.pull import pull
        from openchat_local.models.hub.reference import parse_wanted

        try:
            hub = Hub(stop=self._stop)
            kv_type = load_settings_forgivingly()[0].kv.type
            wanted = parse_wanted(self.name)
            self.model = pull(hub, wanted, installed_models(), self._tell, kv_type=kv_type)
        except Exception as problem:  # noqa: BLE001 - the window's thread raises a bug again
            self.problem = problem
        self._window.post_message(PullEnded(self))

    def _tell(self, event: Event) -> None:
        if isinstance(event, Chosen):
            self.reference = event.reference
        else:
            self.progress = event


class Pulls:
    """One at a time: two would share the line."""

    def __init__(self, window: MessagePump) -> None:
        self.current: Pull | None = None
        self._window = window

    def begin(self, name: str) -> Pull | None:
        """Fetch `name`; None where something else is being fetched."""
        if self.current is not None and self.current.running:
            return None
        self.current = Pull(name, self._window)
        self.current.start()
        return self.current

    def cancel(self) -> None:
        """Stop what is going on, if anything is."""
        if self.current is not None:
            self.current.cancel()
