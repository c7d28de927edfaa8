"""Two answer every prompt of a chat at once, and the user says blind which is better."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from openchat_local.app.learning.pacing import FEWEST, Pacing
from openchat_local.app.printable import one_line
from openchat_local.app.replies.stream import Begun, Shortened
from openchat_local.app.tui.chat.context import BUSY
from openchat_local.app.tui.pair_streaming import PairEnded, PairEvent, RunningPair
from openchat_local.app.tui.questions.confirm import Confirm
from openchat_local.app.tui.questions.verdict import AskVerdict
from openchat_local.app.tui.widgets.blind_pair import choice_of
from openchat_local.app.tui.widgets.chat_pane import VOTE, ChatPane
from openchat_local.app.tui.widgets.reply_painter import Pacer
from openchat_local.models.engine.protocol import Finished, TextDelta
from openchat_local.models.errors import EngineDied, OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from textual.timer import Timer

    from openchat_local.app.chats import ChatStore, Choice, Side, StoredMessage, Vote
    from openchat_local.app.learning.contest import Contest, Contestant, Tally
    from openchat_local.app.learning.contestants import Called
    from openchat_local.app.replies.paired import Answering
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.options import Options
    from openchat_local.app.tui.chat.versions import Versions
    from openchat_local.app.tui.session import ActiveChat
    from openchat_local.models.engine.capabilities import RemotePlace
    from openchat_local.models.engine.protocol import Engine
    from openchat_local.models.engine.remote.engine import RemoteEngine
    from openchat_local.models.engine.remote.options import RemoteOptions

OFF = "off"
TICK_SECONDS = 0.05
CANCEL_SECONDS = 10.0
COMPLETE = frozenset({"stop", "length"})
"""How both replies have ended where how long they are says nothing of who was quicker."""
KEPT = "Both replies are kept as far as they came, and there is no vote on them."
TOO_EARLY = "There is too little of both to vote on: wait for a few more words."
NOTHING_THERE = "There is no pair to vote on. A prompt is more than one of the keys for that."
GO_ON, KEEP_A, KEEP_B, TRAIN, STOP = "go on", "a", "b", "train", "stop"


def _drawn() -> bool:
    return bool(secrets.randbits(1))


class Comparing:
    """Has pairs written, shows them at one pace, and takes the votes."""

    def __init__(self, window: WindowContext, options: Options, versions: Versions) -> None:
        self.learn: Callable[[], Awaitable[object]] | None = None
        """Opens the screen in which what was rated becomes an adapter."""
        self.swaps: Callable[[], bool] = _drawn
        """Whether B is shown first; asked at every prompt."""
        self._window = window
        self._session = window.session
        self._pane = window.pane
        self._options = options
        self._versions = versions
        self._called: Called | None = None
        self._chat: ActiveChat | None = None
        self._pacing = Pacing()
        self._pacer = Pacer()
        self._texts = ("", "")
        self._complete = False
        self._timer: Timer | None = None
        self._engines: dict[RemoteOptions, RemoteEngine] = {}
        window.who_answers = self._who
        window.also_asked = self._places

    # The command

    @property
    def is_on(self) -> bool:
        """Whether two answer in the chat that lies open."""
        chat, now = self._chat, self._session.active
        if self._called is None or chat is None:
            return False
        return chat is now or (chat.id is not None and chat.id == now.id)

    async def command(self, words: str) -> None:
        """Compare those two that the words name, end it, or begin with the newest adapter."""
        window, loader = self._window, self._window.loader
        with window.telling():
            if words.strip().casefold() == OFF:
                await self._end()
            elif self._pane.is_writing:
                window.tell(BUSY, error=True)
            else:
                active, loaded = self._session.active, loader.loaded
                if loaded is None:
                    window.let_others()  # a prompt is on disk at once, and waits for the model
                    loaded = await asyncio.to_thread(loader.wait)
                from openchat_local.app.learning.contestants import called

                self._called = await asyncio.to_thread(called, words, loaded)
                self._chat = active
                window.show_options()
                window.tell(await self._introduction(self._called.contest), stays=True)

    async def _introduction(self, contest: Contest) -> str:
        a, b = contest.a.side.label, contest.b.side.label
        where = "".join(f" {place.in_words()}" for place in dict.fromkeys(_places(contest)))
        votes = (await self._tally(contest)).votes
        before = f" There are {votes} votes on these two." if votes > 1 else ""
        return (
            f"From here on two answer each prompt of this chat, {a} and {b}, in an order that is "
            f"drawn anew each time: say which reply is better.{before}{where} /compare {OFF} ends "
            "it."
        )

    async def _end(self) -> None:
        if self._called is None or not self.is_on:
            self._window.tell("Nothing is compared in this chat.")
            return
        contest, self._called = self._called.contest, None
        self._window.show_options()
        sentence = await self._sentence(contest)
        self._window.tell(f"One answers again. {sentence}", stays=True)

    def _places(self) -> list[RemotePlace] | None:
        """Where both are asked; None where there are not two."""
        return _places(self._called.contest) if self._called is not None and self.is_on else None

    def _engine_of(self, answering: Answering, own: Engine) -> Engine:
        """Who writes for one of both: that of the window, or a remote one beside it."""
        from openchat_local.models.engine.remote.engine import RemoteEngine

        options = answering.remote
        if options is None or (isinstance(own, RemoteEngine) and own.options == options):
            return own
        if options not in self._engines:
            self._engines[options] = RemoteEngine(options)
        return self._engines[options]

    def put_away(self) -> None:
        """The window closes."""
        for engine in self._engines.values():
            engine.close()

    def _who(self) -> str | None:
        """What the status bar says in place of who answers."""
        if self._called is None or not self.is_on:
            return None
        contest = self._called.contest
        return one_line(f"{contest.a.side.label} or {contest.b.side.label}?")

    # Answering

    async def answer(self, chat_id: str, prompt_id: str) -> bool:
        """Have both answer a prompt, if two are compared in the open chat; for whoever has the
        turn. Raises OpenChatError, and then nothing is compared any more."""
        engine = self._window.loader.engine
        if engine is None or not self.is_on or not await self._is_still_so():
            return False
        assert self._called is not None
        condition = self._session.options().condition
        both = self._called.contest.drawn(condition, swapped=self.swaps())
        pane, store = self._pane, self._session.store_of(chat_id)
        engines = self._engine_of(both[0], engine), self._engine_of(both[1], engine)
        pair = RunningPair(store, engines, chat_id, prompt_id, both, pane.sampling, pane.overflow)
        self._pacing, self._texts, self._complete = Pacing(), ("", ""), False
        self._pacer.start()
        pane.both = pair
        pane.set_status(activity="reading the prompt", progress=None, tokens_per_second=None)
        if self._window.loader.loaded is None:
            pane.load_again()
        self._timer = pane.set_interval(TICK_SECONDS, self._tick)
        pair.start(pane)
        return True

    async def _is_still_so(self) -> bool:
        """Whether the two are what they were when they were named: the model loaded, the adapters
        unchanged. One that was trained anew takes part as what it is now."""
        from openchat_local.app.learning.contestants import called, model_of

        before, loaded = self._called, self._window.loader.loaded
        assert before is not None
        if loaded is None:
            return True
        if model_of(loaded) != before.model:
            self._called = None
            self._window.show_options()
            self._window.tell("Another model is loaded now, so nothing is compared any more.")
            return False
        if await asyncio.to_thread(before.is_stale):
            self._called = None
            self._called = await asyncio.to_thread(called, before.words, loaded)
        return True

    def take(self, message: PairEvent) -> None:
        """Something happened to one of both."""
        if message.pair is not self._pane.both:
            return
        event = message.event
        if isinstance(event, TextDelta):
            self._pacing.take(message.side, event.text, event.tokens)
        elif isinstance(event, Finished):
            self._pacing.finish(message.side, time.monotonic())
        elif isinstance(event, Begun) and message.side == 0 and self._is_shown(message.pair):
            self._pane.pair.begin(event.message)
            self._pane.set_status(tokens=None)
        elif isinstance(event, Shortened) and self._is_shown(message.pair):
            self._window.transcript.set_outside(event.messages)

    def _is_shown(self, pair: RunningPair) -> bool:
        """Whether its prompt is the last of what is on the screen."""
        turns = self._window.transcript.turns
        here = pair.chat_id == self._session.active.id
        return here and bool(turns) and turns[-1].id == pair.prompt_id

    def _tick(self) -> None:
        """Show what both have come to, when a painting is due."""
        pair = self._pane.both
        if pair is None or self._pacer.due_in():
            return
        self._show_more(self._pacing.release(time.monotonic()))
        if self._complete and (self._pacing.over or pair.cancelled):
            self._stop_ticking()
            self._window.in_order(partial(self._after, pair))

    def _show_more(self, texts: tuple[str, str]) -> None:
        if not any(texts):
            return
        if not any(self._texts):
            self._pane.set_status(activity="writing", progress=None)
        self._texts = (self._texts[0] + texts[0], self._texts[1] + texts[1])
        if self._pane.pair.shown:
            self._pane.pair.grow(texts)
            self._pacer.painted()

    def _stop_ticking(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    async def ended(self, message: PairEnded) -> None:
        """Both are on disk."""
        pair, problem = message.pair, message.problem
        if problem is not None and not isinstance(problem, OpenChatError):
            raise problem
        if pair is not self._pane.both or pair.is_voting:
            return
        if problem is None and not pair.cancelled and self._is_shown(pair):
            self._complete = True  # the rest of it is on its way to the screen
            return
        self._stop_ticking()
        if problem is not None:
            self._window.tell(f"{problem} {KEPT if pair.vote else ''}".rstrip(), error=True)
        elif pair.vote is not None and pair.cancelled and self._is_shown(pair):
            self._window.tell(KEPT)
        self._window.in_order(partial(self._after, pair, problem))

    async def _after(self, pair: RunningPair, problem: OpenChatError | None = None) -> None:
        """A pair is through: ask for the vote, or leave both as they are where there is none."""
        pane = self._pane
        if pair is not pane.both or pair.is_voting:
            return
        pane.both = None
        pane.set_status(activity="", progress=None)
        if isinstance(problem, EngineDied):
            self._window.loader.loaded = None
            pane.set_status(activity="the engine starts again with your next prompt")
        async with self._window.taking_turns():
            if pair.cancelled and self._complete and pair.vote is not None:
                await self._session.run(_drop, pair.chat_id, pair.vote)
            await self._show(pair.chat_id)
            if pair.chat_id != self._session.active.id or self._pane.asked is None:
                await self._window.refresh_list()
                pane.post_message(ChatPane.Answered(pair.chat_id))

    # The vote

    def choice(self, text: str) -> Choice | None:
        """What a text says that stands alone in the prompt where two are compared, or a pair is on
        the screen: one that is voted on twice leaves no prompt "1" behind."""
        return choice_of(text) if self.is_on or self._pane.pair.shown else None

    def look(self, text: str) -> None:
        """The text in the prompt is another one."""
        if self._pane.pair.shown:
            self._pane.pair.mean(self.choice(text))

    async def meet(self, reply: StoredMessage) -> None:
        """The open branch ends in a pair without a vote: show both, and ask."""
        if reply.chat_id == self._session.active.id:
            async with self._window.taking_turns():
                await self._show(reply.chat_id)

    async def _show(self, chat_id: str) -> None:
        """Show the branch as it is now, and beside it the pair that it ends in, if it does."""
        from openchat_local.app.chats import ChatStore

        if chat_id != self._session.active.id:
            return
        pane, run = self._pane, self._session.run
        branch = await run(ChatStore.branch, chat_id)
        last = branch[-1] if branch else None
        running = pane.both
        if running is not None and last is not None and running.prompt_id == last.parent_id:
            pane.pair.begin(last)
            pane.pair.grow(self._texts)
            return
        pair = None
        if last is not None and last.vote == "unvoted":
            pair = await run(ChatStore.pair_of, last.id)
        if pair is None:
            self._show_plain(chat_id, branch)
            return
        ids = pair.first_reply_id, pair.second_reply_id
        both = [await run(ChatStore.message, each) for each in ids]
        if not _can_be_judged(both):
            await run(_drop, chat_id, pair)
            self._show_plain(chat_id, await run(ChatStore.branch, chat_id))
            return
        if pane.transcript.turns and pane.transcript.turns[-1].id != pair.prompt_id:
            pane.transcript.show_turns(branch[:-1])
        texts = (both[0].content, both[1].content)
        if not pane.pair.shown or pane.pair.texts != texts:
            pane.pair.begin(both[0])
            pane.pair.grow(texts)
            pane.set_status(tokens=None)
        pane.asked = pair
        pane.set_status(activity=VOTE, progress=None)
        self.look(self._window.prompt.text)

    def _show_plain(self, chat_id: str, branch: Sequence[StoredMessage]) -> None:
        self._pane.show(chat_id, branch)
        self._window.meter.recount_soon(0.0)

    async def vote(self, choice: Choice) -> None:
        """Take the vote on the pair that is on the screen, in its turn; one that is still being
        written ends there."""
        running = self._pane.both
        async with self._window.taking_turns():
            is_shown = running is not None and self._is_shown(running)
            pair = await self._stopped() if is_shown else self._pane.asked
            if pair is None:
                self._window.tell(TOO_EARLY if is_shown else NOTHING_THERE)
                return
            try:
                cast = await self._session.run(_cast, pair.chat_id, pair, choice)
            except OpenChatError:
                await self._show(pair.chat_id)  # as it is, perhaps by another window's vote
                if self._pane.asked is None:
                    self._pane.post_message(ChatPane.Answered(pair.chat_id))
                raise
            self._pane.asked = None
            self._pane.set_status(activity="")
            await self._show(cast.chat_id)
            await self._reveal(cast)
            self._pane.post_message(ChatPane.Answered(cast.chat_id, well=True))

    async def _stopped(self) -> Vote | None:
        """The pair that was being written, as far as it came; None where there is nothing of it."""
        pair = self._pane.both
        assert pair is not None
        if self._pacing.shown < FEWEST and not self._complete:  # nobody has read it
            return None
        pair.is_voting = True
        pair.cancel()
        await asyncio.to_thread(pair.join, CANCEL_SECONDS)
        self._stop_ticking()
        self._pane.both = None
        return pair.vote

    async def _reveal(self, cast: Vote) -> None:
        """Say who was who, and what all votes say where there are enough."""
        first, second = _names(cast.first, cast.second)
        said = f"1 was {first}, 2 was {second}."
        if cast.choice in ("first", "second"):
            won, lost = (first, second) if cast.choice == "first" else (second, first)
            said = f"You preferred {won}; the other one was {lost}."
        contest = None if self._called is None or not self.is_on else self._called.contest
        if contest is None or cast.choice == "skip":
            self._window.tell(said)
            return
        votes, wanted = await self._tally(contest), self._session.settings.learning.votes
        self._window.tell(f"{said} Vote {votes.votes} of {-(-votes.votes // wanted) * wanted}.")
        if votes.votes and votes.votes % wanted == 0:
            self._window.begin(partial(self._ask_what_now, contest), "ask")

    # What the votes say

    async def _tally(self, contest: Contest) -> Tally:
        from openchat_local.app.chats import ChatStore
        from openchat_local.app.learning.contest import tally

        condition = self._session.options().condition
        a, b = (one.answering(condition).side for one in (contest.a, contest.b))
        chat_id = self._session.active.id
        votes = await self._session.run(_votes, chat_id)
        if self._session.is_temporary(chat_id):
            votes += await self._session.run(ChatStore.votes)
        return tally(a, b, votes)

    async def _sentence(self, contest: Contest) -> str:
        from openchat_local.app.learning.contest import verdict

        a, b = _names(contest.a.side, contest.b.side)
        return verdict(a, b, await self._tally(contest)).sentence

    async def _ask_what_now(self, contest: Contest) -> None:
        """Show the verdict; the user may do something about it, or go on."""
        window, (a, b) = self._window, _names(contest.a.side, contest.b.side)
        with window.telling():
            sentence = await self._sentence(contest)
            choices = {
                GO_ON: "Go on comparing",
                KEEP_A: f"Answer with {a} from now on",
                KEEP_B: f"Answer with {b} from now on",
                TRAIN: "Train on with what was rated since",
                STOP: "Stop comparing, and change nothing",
            }
            chosen = await window.ask(AskVerdict("What your votes say", sentence, choices))
            if chosen in (KEEP_A, KEEP_B):
                await self._keep(contest.a if chosen == KEEP_A else contest.b)
            elif chosen == TRAIN:
                await self._train()
            elif chosen == STOP:
                await self._end()

    async def _keep(self, one: Contestant) -> None:
        """Have one answer alone: in this chat and in new ones where it is an installed adapter of
        the model of the settings, else in this window."""
        from openchat_local.app.learning.versions import ScoredWorse

        window, name, said = self._window, one.side.adapter or NO_ADAPTER, ""
        if one.remote is not None:
            if await self._options.set_model(one.side.model):
                self._called = None
                window.show_options()
            return
        try:
            said = await self._versions.use(name)
        except ScoredWorse as problem:
            if not await window.ask(Confirm(f"{problem} Adopt it?")):
                return
            said = await self._versions.use(name, even_if_worse=True)
        except OpenChatError:
            path = one.choice.path
            if not await self._options.set_adapter(NO_ADAPTER if path is None else str(path)):
                return
        self._called = None
        window.show_options()
        if one.condition is not None:
            await self._options.set_text("condition", one.condition or "none")
        if said:
            window.tell(said, stays=True)

    async def _train(self) -> None:
        if self.learn is None:
            self._window.tell("openchat-local finetune trains on what you have rated.")
        else:
            await self.learn()


def _places(contest: Contest) -> list[RemotePlace]:
    """Where those of both are asked that are of other programs."""
    both = contest.a.remote, contest.b.remote
    return [remote.place() for remote in both if remote is not None]


def _names(a: Side, b: Side) -> tuple[str, str]:
    """What the two are called; by their condition as well where nothing else tells them apart."""
    if a.label != b.label:
        return one_line(a.label), one_line(b.label)
    return tuple(one_line(f"{side.label} · {side.condition or 'no condition'}") for side in (a, b))  # type: ignore[return-value]


def _can_be_judged(both: Sequence[StoredMessage]) -> bool:
    ended = all(reply.finish_reason in COMPLETE for reply in both)
    return ended and any(reply.content.strip() for reply in both)


# Of the store that has the chat, which they name first.


def _cast(store: ChatStore, _: str, pair: Vote, choice: Choice) -> Vote:
    return store.vote(pair.id, choice)


def _drop(store: ChatStore, _: str, pair: Vote) -> None:
    store.drop_pair(pair.id)


def _votes(store: ChatStore, _: str | None) -> list[Vote]:
    return store.votes()
