"""The conversation, the prompt below it, and the engine that answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from openchat_local.app.printable import one_line
from openchat_local.app.replies.stream import Begun, Shortened, limit_sentence
from openchat_local.app.tui.keys import key_of
from openchat_local.app.tui.loader import ModelFailed, ModelLoaded, ModelLoader, ModelProgress
from openchat_local.app.tui.markdown.document import Document
from openchat_local.app.tui.streaming import ReplyEnded, ReplyEvent, RunningReply
from openchat_local.app.tui.widgets.action_bar import EDITING, ActionBar, keys_for
from openchat_local.app.tui.widgets.blind_pair import BlindPair, PairPane, choice_of
from openchat_local.app.tui.widgets.find_bar import FindBar
from openchat_local.app.tui.widgets.find_in_chat import FindInChat
from openchat_local.app.tui.widgets.notice import Notice
from openchat_local.app.tui.widgets.prompt import Prompt
from openchat_local.app.tui.widgets.reply_painter import ReplyPainter
from openchat_local.app.tui.widgets.status_bar import StatusBar
from openchat_local.app.tui.widgets.transcript import Transcript
from openchat_local.models.engine.protocol import (
    Finished,
    Heartbeat,
    PrefillProgress,
    TextDelta,
)
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import ChatStore, StoredMessage, Vote
    from openchat_local.app.replies.stream import ReplyPlace
    from openchat_local.app.tui.pair_streaming import RunningPair
    from openchat_local.models.engine.context_window import Overflow
    from openchat_local.models.engine.protocol import Engine, LoadedModel, Sampling

STATUS_SECONDS = 0.5
ONE_AT_A_TIME = "One reply at a time: press Esc to stop the one being written."
NOT_VOTED = "Say first which of the two replies is better, or press Esc for no vote."
ELSEWHERE = "a reply is written in another chat"
VOTE = "waits for your vote"
WELCOME = {
    "prompt.send": "sends",
    "prompt.newline": "new line",
    "reply.stop": "stops",
    "chat.new": "new chat",
    "chat.search": "search",
    "window.quit": "quits",
    "window.keys": "all keys",
}


class ChatPane(Vertical):
    """Shows one chat and answers its last prompt. It never writes to the store itself."""

    BLANK = True  # its children cover it: nothing to render at each painting
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("alt+up,ctrl+up", "select(-1)", "Select the message above", id="message.above"),
        Binding("alt+down,ctrl+down", "select(1)", "Select the message below", id="message.below"),
        Binding("ctrl+r", "ask('regenerate')", "Another answer", id="reply.regenerate"),
        Binding("f4", "ask('continue')", "Continue a cut reply", id="reply.continue"),
        Binding("ctrl+f", "find", "Find in this chat", id="find.open", priority=True),
    ]

    class Answered(Message):
        """The reply in `chat_id` has ended, one way or another: `well` if by itself."""

        def __init__(self, chat_id: str, *, well: bool = False) -> None:
            super().__init__()
            self.chat_id = chat_id
            self.well = well

    class PairMet(Message):
        """The branch that is shown ends in a pair that waits for its vote."""

        def __init__(self, reply: StoredMessage) -> None:
            super().__init__()
            self.reply = reply

    class Loaded(Message):
        """The model can be used: prompts can be counted and answered."""

    def __init__(self, engine: Engine | OpenChatError, sampling: Sampling, model: str) -> None:
        super().__init__()
        self.transcript = Transcript()
        self.pair = BlindPair()
        self.notice = Notice()
        self.prompt = Prompt()
        self._find_bar = FindBar()
        self._action_bar = ActionBar()
        self._finding = FindInChat(self.transcript, self._find_bar)
        self._painter = ReplyPainter(self.transcript)
        self.loader = ModelLoader(engine, self)
        self.reply: RunningReply | None = None
        self.both: RunningPair | None = None
        """Two replies that are being written at once."""
        self.asked: Vote | None = None
        """The pair on the screen that waits for its vote."""
        self.sampling = sampling
        self.overflow: Overflow = "drop-oldest"
        self._told_outside = 0
        self._model = one_line(model if "@" in model else Path(model).name)
        self._chat_id: str | None = None
        self._welcoming = ""
        self._waiting: RunningReply | None = None
        self._speed_shown = 0.0

    def compose(self) -> ComposeResult:
        yield self.transcript
        yield self.pair
        yield self._find_bar
        yield self._action_bar
        yield self.notice
        yield self.prompt
        yield StatusBar()

    def on_mount(self) -> None:
        self.welcome()
        self._load()

    @property
    def editing(self) -> StoredMessage | None:
        """The earlier prompt of which a new version is being written."""
        return self.prompt.editing

    @property
    def waiting(self) -> bool:
        """Whether a prompt waits for the model to be loaded."""
        return self._waiting is not None

    @property
    def busy(self) -> bool:
        """Whether a prompt waits for its reply, the reply is being written, or a pair waits for
        its vote."""
        return self.is_writing or self.asked is not None

    @property
    def is_writing(self) -> bool:
        """Whether a prompt waits for its reply or the reply is being written."""
        return self.reply is not None or self.both is not None or self._waiting is not None

    @property
    def why_busy(self) -> str:
        """What the user is told who wants another reply meanwhile."""
        return ONE_AT_A_TIME if self.is_writing else NOT_VOTED

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

    def _welcome(self) -> str:
        """What stands in a new chat: the promise, and the keys in force."""
        keys = (f"{key_of(self.app, name)} {does}" for name, does in WELCOME.items())
        place = self.loader.place
        where = "Nothing you write here leaves this machine." if place is None else place.in_words()
        return f"{where}\n" + " · ".join(keys)

    def welcome(self, text: str | None = None) -> None:
        """Show the program's own words and no turns: these, or those of a new chat."""
        self._welcoming = self._welcome() if text is None else ""
        self.transcript.show_text(self._welcoming or text or "")

    def show(self, chat_id: str | None, messages: Sequence[StoredMessage]) -> None:
        """Show a chat's branch at its end; None is a new chat."""
        if chat_id != self._chat_id:
            self._told_outside = 0
            self.end_edit()
        self._chat_id = chat_id
        self._painter.clear()
        reply = self.reply
        ours = reply is not None and reply.chat_id == chat_id
        live = ours and self._is_live(messages)
        paired = self._meet_pair(messages)
        turns = messages[:-1] if live or paired else messages
        if turns or live:
            self._welcoming = ""
            self.transcript.show_turns(turns)
        else:
            self.welcome()
        self.set_status(tokens=None, tokens_per_second=None)
        if reply is not None and ours:
            if live:  # what we hold of it is newer than what is on disk
                self._show_live(reply)
            self.set_status(activity="writing")
        elif reply is not None or (self.both is not None and not paired):
            self.set_status(activity=ELSEWHERE, progress=None)
        elif self.both is not None:
            self.set_status(activity="writing")
        elif not paired and self.query_one(StatusBar).status.activity in (ELSEWHERE, VOTE):
            self.set_status(activity="")

    def _meet_pair(self, messages: Sequence[StoredMessage]) -> bool:
        """Whether the branch ends in a pair that nobody has voted on, which is shown beside it:
        the one that is being written here, or one that somebody who knows the other reply is
        told of."""
        last = messages[-1] if messages else None
        self.asked = None
        if last is None or last.vote != "unvoted":
            self.pair.hide()
            return False
        ours = self.both is not None and self.both.prompt_id == last.parent_id
        if last.writing and not ours:  # by another window
            self.pair.hide()
            return False
        self.post_message(self.PairMet(last))
        return True

    def _is_live(self, messages: Sequence[StoredMessage]) -> bool:
        """Whether the branch ends in the reply that is being written here."""
        message = None if self.reply is None else self.reply.message
        return message is not None and bool(messages) and messages[-1].id == message.id

    def _show_live(self, reply: RunningReply) -> None:
        assert reply.message is not None
        self.transcript.begin_reply(replace(reply.message, content=""))
        self.transcript.note_thinking(reply.thought_tokens, reply.thought_seconds)
        self._painter.add(reply.text)
        self._painter.paint()

    def on_prompt_refused(self, message: Prompt.Refused) -> None:
        self.notice.tell(message.sentence, error=True)

    # Acting on messages

    def action_select(self, direction: int) -> None:
        self.transcript.select_beside(direction)

    def action_ask(self, action: str) -> None:
        self.post_message(Transcript.Asked(action, self.transcript.selected))

    def on_transcript_selected(self, message: Transcript.Selected) -> None:
        self._show_keys(message.message)

    def show_keys(self) -> None:
        """Show what can be done with the selected message as it is now."""
        self._show_keys(self.transcript.selected)

    def _show_keys(self, selected: StoredMessage | None) -> None:
        keys = keys_for(selected) if self.transcript.has_focus else ""
        self._action_bar.show(EDITING if self.editing else keys)
        # The line may have taken the room in which the message stood.
        self.call_after_refresh(self.transcript.reveal_selected)

    def begin_edit(self, message: StoredMessage, text: str | None = None) -> None:
        """Take an earlier prompt into the prompt box, to be sent as a new version; `text` is
        what was made of it already."""
        self.transcript.keeps_selection = True
        self.transcript.select(message.id)
        self.prompt.begin_edit(message, text)
        self._show_keys(message)

    def end_edit(self) -> None:
        """The new version is given up: what was unsent before comes back."""
        if self.prompt.end_edit():
            self._edit_ended()

    def on_prompt_sent(self, message: Prompt.Sent) -> None:
        if message.instead_of is not None:
            self._edit_ended()

    def _edit_ended(self) -> None:
        self.transcript.keeps_selection = False
        self.transcript.select(None)
        self._show_keys(None)

    def take_unsent(self) -> str:
        """What was written and not sent, taken out of the prompt box; an edit is given up."""
        self.end_edit()
        text = self.prompt.text
        self.prompt.put("")
        return text

    def give_back(self, text: str, instead_of: StoredMessage | None) -> None:
        """Put what could not be sent back into the prompt box."""
        if instead_of is None:
            self.prompt.give_back(text)
        else:
            self.begin_edit(instead_of, text)

    def leave(self) -> bool:
        """Esc: leave what is furthest from the bare chat; False if nothing was there."""
        if self.editing is not None:
            self.end_edit()
        elif self._find_bar.shown and not self.is_writing:
            self.on_find_bar_closed()
        elif self.transcript.selected_key is not None and not self.is_writing:
            self.transcript.select(None)
            self.prompt.focus()
        elif self.asked is not None and not self.is_writing:
            if choice_of(self.prompt.text) is not None:
                self.prompt.put("")  # a vote that is taken back, and no prompt
            self.post_message(PairPane.Voted("skip"))
        elif not self.stop():
            self.prompt.focus()
            return False
        return True

    # Finding

    def action_find(self) -> None:
        self._find_bar.open()

    def on_find_bar_wanted(self, message: FindBar.Wanted) -> None:
        self.run_worker(self._finding.search(message.words), exclusive=True, group="find")

    def on_find_bar_go(self, message: FindBar.Go) -> None:
        self._finding.go(message.direction)

    def on_transcript_hit_wanted(self, message: Transcript.HitWanted) -> None:
        self._finding.go(message.direction)

    def on_find_bar_closed(self) -> None:
        self.workers.cancel_group(self, "find")
        self._finding.end()
        self._find_bar.close()
        self.prompt.focus()

    # Loading

    def _load(self) -> None:
        self.loader.load()
        if self.loader.place is None:
            self.set_status(model=self._model, activity="loading", progress=0.0)
        else:
            self.set_status(model=self._model, activity="asking who is there", progress=None)

    def load_other(self, model: str) -> None:
        """Show that `model` is on its way; somebody else loads it."""
        self._model = one_line(model)
        bar = None if "@" in model else 0.0  # nothing of a remote one is read
        self.set_status(
            model=self._model, activity="loading", progress=bar, context=None, tokens=None
        )

    def load_again(self) -> None:
        """Load what the engine had before, if it had anything."""
        if self.loader.engine is not None:
            self._load()
        else:
            self.set_status(activity="no model", progress=None)

    def on_model_progress(self, message: ModelProgress) -> None:
        if self.loader.loaded is None:
            self.set_status(activity="loading", progress=message.fraction)

    def on_model_loaded(self, message: ModelLoaded) -> None:
        model: LoadedModel = message.model
        self._model = one_line(model.name)
        self.set_status(activity="", progress=None, context=model.context or None)
        if self._welcoming not in ("", self._welcome()):  # it says where words go
            self.welcome()
        known = model.remote.in_words() if model.remote is not None and self._welcoming else None
        notes = [note for note in (model.template_note, *model.notes) if note and note != known]
        if notes and not self.notice.text:
            self.notice.tell(" ".join(notes), stays=True)
        self.post_message(self.Loaded())
        self._warm_up()

    def answer_waiting(self) -> None:
        """Begin the reply that was waiting for the model, if it is loaded."""
        if self.loader.loaded is None:
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

    def answer(self, store: ChatStore, chat_id: str, place: ReplyPlace | None = None) -> None:
        """Answer the chat's last prompt, or what `place` says, once the model is loaded."""
        engine = self.loader.engine
        if engine is None:
            self._load()  # says again why there is no engine
            return
        reply = RunningReply(store, engine, chat_id, self.sampling, place, self.overflow)
        if self.loader.loaded is None:
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
        running = self.reply or self.both
        if running is not None:
            self.set_status(activity="stopping", progress=None)
            running.cancel()
            return True
        return False

    def _start(self, reply: RunningReply) -> None:
        self.reply = reply
        self._painter.start()
        self._speed_shown = 0.0
        self.set_status(activity="reading the prompt", progress=None, tokens_per_second=None)
        reply.start(self)

    def on_reply_event(self, message: ReplyEvent) -> None:
        reply, event = message.reply, message.event
        reply.take(event)
        if isinstance(event, Finished):
            goes_on = f"{key_of(self.app, 'reply.continue')} continues it"
            if said := event.note or limit_sentence(event, goes_on):
                self.notice.add(said)
        if reply.chat_id != self._chat_id:
            return
        if isinstance(event, Begun):
            self._begin(event.message)
        elif isinstance(event, Shortened):
            self.transcript.set_outside(event.messages)
            if event.messages > self._told_outside:
                self._told_outside = event.messages
                self.notice.tell(event.sentence(), stays=True)
        elif isinstance(event, PrefillProgress):
            self.set_status(progress=event.evaluated / event.total if event.total else None)
        elif isinstance(event, TextDelta):
            if self._is_live(self.transcript.turns):
                self.transcript.note_thinking(reply.thought_tokens, reply.thought_seconds)
                self._painter.add(event.text)
            self._show_speed(reply)
        elif isinstance(event, Heartbeat):
            self._show_thinking(reply)

    def _show_thinking(self, reply: RunningReply) -> None:
        """Time passes for a model that is slow to think."""
        if reply.thinking and self._is_live(self.transcript.turns):
            figures = reply.thought_tokens, reply.thought_seconds
            self.transcript.note_thinking(*figures, show=True)

    def _begin(self, message: StoredMessage) -> None:
        """A reply has its row: it takes the place of its siblings on the screen."""
        parent = self.transcript.number_of(message.parent_id)
        if parent is not None or message.parent_id is None:
            self.transcript.begin_reply(message)

    def _show_speed(self, reply: RunningReply) -> None:
        """At most twice a second: a figure that flickers cannot be read."""
        now = time.monotonic()
        if now - self._speed_shown >= STATUS_SECONDS:
            self._speed_shown = now
            now_is = "thinking" if reply.thinking else "writing"
            activity = "stopping" if reply.cancelled else now_is
            self.set_status(
                activity=activity, progress=None, tokens_per_second=reply.tokens_per_second
            )

    def on_reply_ended(self, message: ReplyEnded) -> None:
        reply = message.reply
        speed = None
        if reply.chat_id == self._chat_id:
            ended = reply.ended()
            if ended is not None and self._is_live(self.transcript.turns):
                self._painter.paint(to_the_end=True)
                self.transcript.end_reply(ended)
            speed = reply.tokens_per_second
        self.reply = None
        self.set_status(activity="", progress=None, tokens_per_second=speed)
        if message.problem is not None:
            self._tell(message.problem)
        if reply.reason == "engine died":
            self.loader.loaded = None  # the next prompt starts it again
            self.set_status(activity="the engine starts again with your next prompt")
        well = message.problem is None and reply.reason in ("stop", "length")
        self.post_message(self.Answered(reply.chat_id, well=well))
