"""What goes along with a prompt in words: what it is, how long, and how much of it would fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from openchat_local.app.printable import one_line
from openchat_local.app.replies.mentions import BEST, in_ranges
from openchat_local.app.replies.reading import AS_SENT, Attached
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.context_window import REPLY_SHARE
from openchat_local.models.errors import EngineError

if TYPE_CHECKING:
    from openchat_local.models.engine.protocol import Engine

Count = Callable[[str], int]
"""The tokens of a text."""
AROUND = 64
"""Tokens that stand around a prompt in any template, at the most."""
_TRIES = 12
NAMED = 3


def counting(engine: Engine) -> Count | None:
    """Counts the tokens of a text as a part of a prompt, without what a template writes around.
    None where the engine cannot say, or only once the text has left this machine."""

    def tokens(text: str) -> int:
        return engine.count_tokens(Conversation((Message("user", text),)))

    try:
        alone = tokens("@")
    except EngineError:
        return None
    return lambda text: tokens(f"@\n\n{text}") - alone


def room_for(context: int) -> int | None:
    """The tokens of a context beside the reply's share of it; None where no context is known."""
    return context - context // REPLY_SHARE - AROUND if context else None


def size_of(attached: Attached, count: Count | None) -> str:
    """ "8,450 tokens", or characters where nobody can count tokens."""
    if count is None:
        return f"{sum(len(part.text) for part in attached.parts):,} characters"
    return f"{count(attached.text):,} tokens"


def described(
    attached: Attached,
    count: Count | None = None,
    room: int | None = None,
    *,
    listed: bool = False,
) -> str:
    """A line about what goes along for a mention: its name, what it is, its size and, where that
    is more than `room` tokens, which of its pages would fit. Of a folder some files are named, or
    where all of them are `listed` below, what was left out."""
    words = [attached.about, size_of(attached, count)]
    line = f"@{attached.mention.name}  {', '.join(filter(None, words))}"
    if attached.mention.is_searched:
        if listed or not attached.mention.is_folder:
            return " · ".join([line, *attached.notes])
        prefix = attached.mention.name
        names = [
            one_line(each.name.partition(" (")[0].removeprefix(prefix)) for each in attached.parts
        ]
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        return f"{line}: {', '.join(names[:NAMED])}{more}"
    if count is not None and room is not None and count(attached.text) > room:
        line += f", and {max(0, room):,} fit: {too_long(attached, count, room)}"
    return " · ".join([line, *attached.notes])


def too_long(attached: Attached, count: Count, room: int) -> str:
    """What to do about an attachment that is longer than `room` tokens."""
    name = attached.mention.name
    part = attached.mention.part
    whole = name.removesuffix(f":{part}") if part else name
    quoted = f'"{whole}"' if " " in whole else whole
    best = f"@{quoted}:{BEST} is what suits the prompt"
    number = _pages_that_fit(attached, count, room)
    if number and attached.document is not None:
        unit, pages = attached.document.unit, in_ranges(list(attached.pages[:number]))
        asked = pages.replace(" ", "")
        return f"{unit}{'s' * (number > 1)} {pages} would, as @{quoted}:{asked}; {best}"
    if attached.about == AS_SENT:
        return "a larger --context holds more"
    return best


def _pages_that_fit(attached: Attached, count: Count, room: int) -> int:
    """How many of the pages, from the first on, fit into `room` tokens."""
    document, pages = attached.document, attached.pages
    if document is None or not document.unit or len(pages) < 2:
        return 0

    def fits(number: int) -> bool:
        return count(document.text(pages[:number])) <= room

    # Counting all of a book takes a second: begin where the share of its length says.
    lengths = [len(document.pages[page - 1].text) + 1 for page in pages]
    left = len(attached.text) * room / max(1, count(attached.text))
    number = 0
    while number < len(pages) - 1 and left > lengths[number]:
        left -= lengths[number]
        number += 1
    for _ in range(_TRIES):
        if number and not fits(number):
            number -= 1
        elif number + 1 < len(pages) and fits(number + 1):
            number += 1
        else:
            break
    return number if number and fits(number) else 0
