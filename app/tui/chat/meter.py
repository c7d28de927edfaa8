"""How full the context is: the active chat with the unsent prompt, in the model's own tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openchat_local.models.engine.protocol import GenerationRequest
from openchat_local.models.errors import DoesNotFit, OpenChatError

if TYPE_CHECKING:
    from textual.timer import Timer
    from textual.worker import Worker

    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.session import Session
    from openchat_local.app.tui.widgets.chat_pane import ChatPane

COUNT_SECONDS = 0.3


class Meter:
    """Keeps the count in the status bar true."""

    def __init__(self, session: Session, pane: ChatPane) -> None:
        self._session = session
        self._pane = pane
        self._timer: Timer | None = None
        self.as_prompt: Callable[[str], str] = str
        """What of the text in the prompt box the model would get."""
        self.with_files: Callable[[str, StoredMessage | None], str] = lambda text, _: text
        """Such a text with what it mentions, as far as that was read; takes a while."""

    def recount_soon(self, seconds: float = COUNT_SECONDS) -> None:
        """Count after `seconds`, unless this is called again before."""
        if self._timer is not None:
            self._timer.stop()
        self._timer = self._pane.set_timer(max(0.01, seconds), self._begin)

    def _begin(self) -> None:
        _: Worker[None] = self._pane.run_worker(self._recount, group="count", exclusive=True)

    async def _recount(self) -> None:
        pane, active = self._pane, self._session.active
        engine = pane.loader.engine
        loaded = pane.loader.loaded
        if engine is None or loaded is None or pane.pair.shown:
            return  # which of the two replies counts is to be seen
        if loaded.remote is not None and not loaded.remote.counts_drafts:
            # To have it counted would be to send it; what was sent was counted with the reply.
            pane.set_status(tokens=_counted_there(pane.transcript.turns))
            return
        try:
            written = self.as_prompt(pane.prompt.text)
            whole = await asyncio.to_thread(self.with_files, written, pane.editing)
            prompted = await self._session.prompted(whole, pane.editing, pane.loader.loaded)
            tokens = outside = 0
            if prompted.conversation.messages:
                request = GenerationRequest(
                    prompted.conversation, pane.sampling, overflow=pane.overflow
                )
                fitted = await asyncio.to_thread(engine.fit, request)
                tokens, outside = fitted.tokens, prompted.first_seen(fitted.left_out)
        except DoesNotFit as problem:
            tokens, outside = problem.tokens, 0
        except OpenChatError:
            return  # the meter keeps its figure; sending will tell what is wrong
        if active is self._session.active and not pane.pair.shown:
            pane.set_status(tokens=tokens)
            pane.transcript.set_outside(outside)


def _counted_there(turns: Sequence[StoredMessage]) -> int | None:
    """What the server that wrote the last turn has counted up to it; None where it did not."""
    usage = turns[-1].usage if turns else None
    if not usage or not usage.get("prompt_tokens"):
        return None
    return int(usage["prompt_tokens"] + usage["generated_tokens"])
