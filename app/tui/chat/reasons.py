"""Why a reply was rated so: a sentence beside the rating."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.app.tui.questions.line import AskLine

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage
    from openchat_local.app.tui.chat.context import WindowContext

RATE_FIRST = "Rate a reply first, with + or -: then there is something to give a reason for."


async def explain(window: WindowContext, text: str) -> None:
    """Keep `text` as the reason of the selected reply's rating, else of the last rating in the
    chat; without a text, ask for it."""
    selected = window.transcript.selected
    if selected is None or selected.role != "assistant":
        rated = (turn for turn in reversed(window.transcript.turns) if turn.rating is not None)
        selected = next(rated, None)
    await ask_why(window, selected, text or None)


async def ask_why(
    window: WindowContext, message: StoredMessage | None, text: str | None = None
) -> None:
    """Keep the reason why a reply was rated so, which is asked for if it is not given."""
    from openchat_local.app.chats import ChatStore

    if message is None or message.rating is None:
        window.tell(RATE_FIRST, error=True)
        return
    if text is None:
        title = "Why is this reply good?" if message.rating > 0 else "Why is this reply bad?"
        hint = "Enter keeps it · Esc gives up · an empty line takes it away"
        text = await window.ask(AskLine(title, message.rating_reason or "", hint))
    if text is None:
        return
    async with window.taking_turns():
        # As it is now: the rating may have been taken back in another window meanwhile.
        now = await window.session.run(ChatStore.message, message.id)
        if now.rating is None:
            window.tell(RATE_FIRST, error=True)
            return
        rated = await window.session.run(ChatStore.rate, message.id, now.rating, text)
        window.transcript.update_turn(rated)
