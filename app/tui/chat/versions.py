"""Adapters as versions in the window: used, taken back, judged, scaled, deleted.

What is known of versions is imported when they are asked for.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openchat_local.app.contenders import BASE
from openchat_local.app.engine import installed_adapters
from openchat_local.app.tui.chat.context import BUSY
from openchat_local.app.tui.judging import Judging
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openchat_local.app.chats.votes import Vote
    from openchat_local.app.learning.adoption import Change
    from openchat_local.app.learning.arena import Arena
    from openchat_local.app.learning.versions import Branch, Deletion
    from openchat_local.app.tui.chat.context import WindowContext
    from openchat_local.app.tui.chat.options import Options

ROLLBACK = "/rollback"
_BEGINNINGS = 500  # votes whose prompts are read
_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Ballots:
    """The arena, and how the prompts of its newest votes begin, by their ids."""

    arena: Arena
    prompts: Mapping[str, str]


class Versions:
    """What is asked of a version raises OpenChatError where it cannot be done; the sentence that
    comes back says what was done."""

    def __init__(self, window: WindowContext, options: Options) -> None:
        self._window = window
        self._options = options
        self.judging: Judging | None = None

    async def look(self) -> list[Branch]:
        """The tree of versions, as it is on disk now."""
        from openchat_local.app.learning.arena import votes_by_adapter
        from openchat_local.app.learning.versions import tree, versions

        votes = await self._votes()
        return await asyncio.to_thread(lambda: tree(versions(votes_by_adapter(votes))))

    async def ballots(self) -> Ballots:
        """All votes, with their standings."""
        from openchat_local.app.chats import ChatStore
        from openchat_local.app.learning.arena import arena

        votes = await self._votes()
        prompts = {}
        for vote in votes[-_BEGINNINGS:]:
            try:
                message = await self._window.session.run(ChatStore.message, vote.prompt_id)
            except OpenChatError:
                continue  # its chat was deleted meanwhile
            prompts[vote.prompt_id] = message.content[:_CHARACTERS]
        return Ballots(await asyncio.to_thread(arena, votes), prompts)

    async def _votes(self) -> Sequence[Vote]:
        from openchat_local.app.chats import ChatStore

        return await self._window.session.run(ChatStore.votes)

    async def use(self, name: str, *, even_if_worse: bool = False) -> str:
        """Have new chats, and the open one, answer with an adapter, or "none"."""
        from openchat_local.app.learning.versions import adopt

        self._refuse_while_busy()
        change = await asyncio.to_thread(adopt, name, even_if_worse=even_if_worse)
        return await self._take_over(change)

    async def take_back(self) -> str:
        """Bring back what answered before."""
        from openchat_local.app.learning.versions import roll_back

        self._refuse_while_busy()
        return await self._take_over(await asyncio.to_thread(roll_back))

    async def roll_back(self) -> None:
        """The same, told above the prompt."""
        with self._window.telling():
            self._window.tell(await self.take_back())

    async def rescale(self, name: str, text: str) -> str:
        """Multiply the effect of an adapter by a number that was written."""
        from openchat_local.app.learning.versions import VersionError, set_scale

        self._refuse_while_busy()
        try:
            scale = float(text.strip().replace(",", "."))
        except ValueError:
            raise VersionError(f"{text!r} is no number: write one such as 0.7.") from None
        await asyncio.to_thread(set_scale, name, scale)
        if self._answers_now(name):
            await asyncio.to_thread(self._window.loader.set_adapter, name)
        return f"The effect of {name} is multiplied by {scale:g} from the next reply on."

    async def deletion(self, name: str) -> Deletion:
        """What would be deleted with an adapter."""
        from openchat_local.app.learning.versions import to_delete

        return await asyncio.to_thread(to_delete, name)

    async def delete(self, what: Deletion) -> str:
        """Delete it, after the user has said so."""
        from openchat_local.app.learning.versions import carry_out

        self._refuse_while_busy()
        # Of its own use here the engine lets go first: Windows deletes no file that is open.
        if what.in_use or self._answers_now(what.name):
            await self._answer_with(NO_ADAPTER)
        await asyncio.to_thread(carry_out, what, even_in_use=True)
        gone = "" if what.run is None else ", with its run and what it was made of"
        return f"{what.name} was deleted{gone}."

    def to_compare(self, name: str | None) -> str:
        """What /compare is told, so that it compares this version (None: the model as it is) with
        what answers now, or, if that is the same, with the model as it is."""
        loaded = self._window.loader.loaded
        now = loaded.adapter.name if loaded is not None and loaded.adapter is not None else None
        other = None if now == name else now
        return f"{_called(name)} {_called(other)}" if name != other else ""

    def judge(self, name: str) -> None:
        """Begin to judge an adapter. Raises OpenChatError."""
        from openchat_local.app.learning.versions import VersionError, in_use

        loader = self._window.loader
        if self.judging is not None and self.judging.running:
            raise VersionError(f"{self.judging.name} is being judged: wait for that, or stop it.")
        if loader.engine is None or loader.loaded is None:
            raise VersionError("The model is not loaded yet: judge it in a moment.")
        if loader.loaded.remote is not None:
            raise VersionError(
                f"{name} is judged on the model that it was trained on, and {loader.loaded.name} "
                "answers here: choose that model first, with /model."
            )
        self.judging = Judging(name, loader.engine, in_use(), self._window.pane.screen)
        self.judging.start()

    def stop_judging(self) -> None:
        """Harmless where nothing is being judged."""
        if self.judging is not None:
            self.judging.cancel()

    def tell_end(self, judging: Judging) -> None:
        """Say above the prompt what came of it."""
        if judging.findings is not None:
            first = next(iter(judging.findings.sentences), "")
            self._window.tell(f"{judging.name} was judged. {first} /versions shows all of it.")
        elif isinstance(judging.problem, OpenChatError):
            self._window.tell(str(judging.problem), error=not judging.stopping)
        elif judging.problem is not None:
            raise judging.problem

    def _refuse_while_busy(self) -> None:
        from openchat_local.app.learning.versions import VersionError

        if self._window.pane.busy:
            raise VersionError(BUSY)

    def _answers_now(self, name: str) -> bool:
        loaded = self._window.loader.loaded
        return loaded is not None and loaded.adapter is not None and loaded.adapter.name == name

    async def _take_over(self, change: Change) -> str:
        """Let what the settings file says now hold in this window."""
        from openchat_local.app.learning.versions import overruled

        session = self._window.session
        session.settings = session.settings.model_copy(update={"adapter": change.now})
        here = await self._answer_with(change.now)
        what = "The model answers without an adapter"
        if change.now != NO_ADAPTER:
            what = f"{change.now} answers"
        before = "none did" if change.before == NO_ADAPTER else f"{change.before} did"
        sentence = f"{what} in new chats from now on, and in this one; before, {before}."
        if not here:
            sentence = (
                f"{what} in new chats from the next start on: the model that is loaded here "
                "cannot take it."
            )
        elif change.before == change.now:
            sentence = f"{what} in new chats already, and in this one."
        else:
            sentence += f" {ROLLBACK} takes that back."
        if change.skipped:
            sentence += f" Deleted since, and passed over: {', '.join(change.skipped)}."
        return " ".join(filter(None, (sentence, overruled())))

    async def _answer_with(self, name: str) -> bool:
        """Whether the open chat answers with this adapter from now on."""
        window = self._window
        done = False
        async with window.taking_turns():
            if window.loader.loaded is None:
                await window.session.use_adapter(name)  # the engine takes it when it is there
                done = True
            else:
                done = await self._options.set_adapter(name)
        window.show_options()
        return done


def _called(name: str | None) -> str:
    """One of those that are compared, as /compare takes it; in quotes where it has to be."""
    if name is None:
        return BASE
    scale = installed_adapters().scale(name)
    return name if scale == 1 else f'"adapter={name},scale={scale:g}"'
