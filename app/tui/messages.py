"""What threads tell the window. A thread touches no widget: it posts one of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from openchat_local.app.replies.stream import StreamEvent
    from openchat_local.app.settings.model import Settings
    from openchat_local.app.tui.pulling import Pull
    from openchat_local.app.tui.streaming import RunningReply
    from openchat_local.models.engine.protocol import LoadedModel


class ModelProgress(Message):
    """The model is loading; only the newest of these is worth reading."""

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def can_replace(self, message: MessagePump | Message) -> bool:
        return isinstance(message, ModelProgress)


class ModelLoaded(Message):
    """The engine is ready."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.model = model


class ModelFailed(Message):
    """The engine cannot load the model, or died while it did."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem


class SettingsChanged(Message):
    """The user has changed settings, which are to hold from now on."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings


class PullEnded(Message):
    """A model has been fetched, or not: the pull knows which."""

    def __init__(self, pull: Pull) -> None:
        super().__init__()
        self.pull = pull


class ReplyEvent(Message):
    """Something happened to the reply in progress."""

    def __init__(self, reply: RunningReply, event: StreamEvent) -> None:
        super().__init__()
        self.reply = reply
        self.event = event


class ReplyEnded(Message):
    """The reply is closed in the store; `problem` if it ended badly."""

    def __init__(self, reply: RunningReply, problem: Exception | None) -> None:
        super().__init__()
        self.reply = reply
        self.problem = problem
