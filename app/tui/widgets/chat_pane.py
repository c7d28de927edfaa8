"""The conversation, the prompt below it, and the engine that answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.timer import Timer

from openchat_local.app.printable import printable
from openchat_local.app.tui.engine_room import EngineRoom
from openchat_local.app.tui.messages import (
    ModelFailed,
    ModelLoaded,
    ModelProgress,
    ReplyEnded,
    ReplyEvent,
)
from openchat_local.app.tui.pacing import Pacer
from openchat_local.app.tui.reply.document import Document
from openchat_local.app.tui.reply.messages import message_blocks, plain_blocks, remark_blocks
from openchat_local.app.tui.replying import RunningReply
from openchat_local.app.tui.widgets.notice import Notice
from openchat_local.app.tui.widgets.prompt import Prompt
from openchat_local.app.tui.widgets.status_bar import StatusBar
from openchat_local.app.tui.widgets.transcript import Transcript
from openchat_local.models.engine.protocol import Finished, PrefillProgress, TextDelta
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import ChatStore, StoredMessage
    from openchat_local.models.engine.protocol import Engine, LoadedModel, Sampling

PAGE = 20
STATUS_SECONDS = 0.5
WELCOME = (
    "Nothing you write here leaves this machine.\n"
    "Enter sends · Ctrl+J new line · Esc stops · Ctrl+N new chat · Ctrl+Q quits · F1 all keys"
)


class ChatPane(Vertical):
    """Shows one chat and answers its last prompt. It never writes to the store itself."""

    BLANK = True  # its children cover it: nothing to render at each painting

    class Answered(Message):
        """The reply in `chat_id` has ended, one way or another."""

        def __init__(self, chat_id: str) -> None:
            super().__init__()
            self.chat_id = chat_id

    class Loaded(Message):
        """The model can be used: prompts can be counted and answered."""

    def __init__(self, engine: Engine | OpenChatError, sampling: Sampling, model: str) -> None:
        super().__init__()
        self.room = EngineRoom(engine, self)
        self.reply: RunningReply | None = None
        self.sampling = sampling
        self._model = printable(Path(model).name)
        self._chat_id: str | None = None
        self._older: list[StoredMessage] = []
        self._waiting: RunningReply | None = None
        self._unpainted = ""
        self._growing = False
        self._pacer = Pacer()
        self._speed_shown = 0.0
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Transcript()
        yield Notice()
        yield Prompt()
        yield StatusBar()

    def on_mount(self) -> None:
        self.transcript.show(plain_blocks(WELCOME))
        self._load()

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    @property
    def notice(self) -> Notice:
        return self.query_one(Notice)

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    @property
    def busy(self) -> bool:
        """Whether a prompt waits for its reply or the reply is being written."""
        return self.reply is not None or self._waiting is not None

    def set_status(self, **changes: Any) -> None:
        """Change some fields of the status line."""
        bar = self.query_one(StatusBar)
        bar.status = replace(bar.status, **changes)

    def _tell(self, problem: Exception) -> None:
        """Show a thread's problem; one that no sentence was written for is a bug."""
        if not isinstance(problem, OpenChatError):
            raise problem
        self.notice.tell(str(problem), error=True)

    # What is shown

    def show(self, chat_id: str | None, messages: Sequence[StoredMessage]) -> None:
        """Show a chat's branch at its end; None is a new chat."""
        self._chat_id = chat_id
        self._unpainted, self._growing = "", False
        reply = self.reply
        ours = reply is not None and reply.chat_id == chat_id
        if ours and messages and messages[-1].role == "assistant":
            messages = messages[:-1]  # what we hold of it is newer than what is on disk
        self._older = list(messages[:-PAGE])
        blocks = message_blocks(messages[-PAGE:])
        self.transcript.show(blocks if messages or ours else plain_blocks(WELCOME))
        while self._older and self.transcript.rows < self.transcript.size.height:
            self.on_transcript_top_reached()  # there would be nothing to scroll
        self.set_status(tokens=None, tokens_per_second=None)
        if reply is not None and ours:
            self._unpainted = reply.text
            self._paint()
            self.set_status(activity="writing")
        elif reply is not None:
            self.set_status(activity="a reply is written in another chat", progress=None)

    def on_transcript_top_reached(self) -> None:
        if self._older:
            page = self._older[-PAGE:]
            del self._older[-PAGE:]
            self.transcript.prepend(message_blocks(page))

    def on_prompt_refused(self, message: Prompt.Refused) -> None:
        self.notice.tell(message.sentence, error=True)

    # Loading

    def _load(self) -> None:
        self.room.load()
        self.set_status(model=self._model, activity="loading", progress=0.0)

    def load_other(self, model: str) -> None:
        """Show that `model` is on its way; somebody else loads it."""
        self._model = printable(model)
        self.set_status(
            model=self._model, activity="loading", progress=0.0, context=None, tokens=None
        )

    def load_again(self) -> None:
        """Load what the engine had before, if it had anything."""
        if self.room.engine is not None:
            self._load()
        else:
            self.set_status(activity="no model", progress=None)

    def on_model_progress(self, message: ModelProgress) -> None:
        if self.room.loaded is None:
            self.set_status(activity="loading", progress=message.fraction)

    def on_model_loaded(self, message: ModelLoaded) -> None:
        model: LoadedModel = message.model
        adapter = f" + {model.adapter.name}" if model.adapter else ""
        self._model = printable(model.name + adapter)
        self.set_status(model=self._model, activity="", progress=None, context=model.context)
        notes = [note for note in (model.template_note, *model.notes) if note]
        if notes and not self.notice.text:
            self.notice.tell(" ".join(notes))
        self.post_message(self.Loaded())
        self._warm_up()

    def answer_waiting(self) -> None:
        """Begin the reply that was waiting for the model, if it is loaded."""
        if self.room.loaded is None:
            return
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._start(waiting)

    @work(thread=True)
    def _warm_up(self) -> None:
        """Import the parsers now, while nobody waits for the first code of a first reply."""
        for block in Document("```python\nx = 1\n").blocks:
            block.rows(80)

    def on_model_failed(self, message: ModelFailed) -> None:
        self.set_status(activity="no model", progress=None)
        self._tell(message.problem)
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.post_message(self.Answered(waiting.chat_id))

    # Answering

    def answer(self, store: ChatStore, chat_id: str) -> None:
        """Answer the chat's last prompt, as soon as the model is loaded."""
        engine = self.room.engine
        if engine is None:
            self._load()  # says again why there is no engine
            return
        reply = RunningReply(store, engine, chat_id, self.sampling)
        if self.room.loaded is None:
            self._waiting = reply
            self._load()
            self.set_status(activity="your prompt is saved; loading")
        else:
            self._start(reply)

    def stop(self) -> bool:
        """Stop what is going on; False if nothing is."""
        if self._waiting is not None:
            chat_id, self._waiting = self._waiting.chat_id, None
            self.set_status(activity="loading")
            self.post_message(self.Answered(chat_id))
            return True
        if self.reply is not None:
            self.set_status(activity="stopping", progress=None)
            self.reply.cancel()
            return True
        return False

    def _start(self, reply: RunningReply) -> None:
        self.reply = reply
        self._unpainted, self._growing = "", False
        self._pacer.start()
        self._speed_shown = 0.0
        self.set_status(activity="reading the prompt", progress=None, tokens_per_second=None)
        reply.start(self)

    def on_reply_event(self, message: ReplyEvent) -> None:
        reply, event = message.reply, message.event
        reply.take(event)
        if isinstance(event, Finished) and event.note:
            self.notice.tell(event.note)
        if reply.chat_id != self._chat_id:
            return
        if isinstance(event, PrefillProgress):
            self.set_status(progress=event.evaluated / event.total if event.total else None)
        elif isinstance(event, TextDelta):
            self._unpainted += event.text
            self._paint_when_due()
            self._show_speed(reply)

    def _show_speed(self, reply: RunningReply) -> None:
        """At most twice a second: a figure that flickers cannot be read."""
        now = time.monotonic()
        if now - self._speed_shown >= STATUS_SECONDS:
            self._speed_shown = now
            activity = "stopping" if reply.cancelled else "writing"
            self.set_status(
                activity=activity, progress=None, tokens_per_second=reply.tokens_per_second
            )

    def on_reply_ended(self, message: ReplyEnded) -> None:
        reply = message.reply
        speed = None
        if reply.chat_id == self._chat_id:
            self._paint(to_the_end=True)
            self.transcript.extend(remark_blocks(reply.reason))
            speed = reply.tokens_per_second
        self.reply = None
        self._growing = False
        self.set_status(activity="", progress=None, tokens_per_second=speed)
        if message.problem is not None:
            self._tell(message.problem)
        if reply.reason == "engine died":
            self.room.loaded = None  # the next prompt starts it again
            self.set_status(activity="the engine starts again with your next prompt")
        self.post_message(self.Answered(reply.chat_id))

    def _paint_when_due(self) -> None:
        wait = self._pacer.due_in()
        if not wait:
            self._paint()
        elif self._timer is None:
            self._timer = self.set_timer(wait, self._paint)

    def _paint(self, *, to_the_end: bool = False) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        text, self._unpainted = self._unpainted, ""
        if text.endswith("\r") and not to_the_end:  # half of a Windows line end, perhaps
            text, self._unpainted = text[:-1], "\r"
        if text:
            self._grow(text)
            self._pacer.painted()

    def _grow(self, text: str) -> None:
        if not self._growing:
            self._growing = True
            self.transcript.begin_reply(printable(text))
        else:
            self.transcript.grow_reply(printable(text))
