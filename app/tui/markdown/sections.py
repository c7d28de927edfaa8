"""Stored messages as blocks: prompts as they were typed, replies as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from openchat_local.app.chats.endings import ending_in_words
from openchat_local.app.chats.thoughts import (
    answer_of,
    divided,
    thoughts_in_words,
    tokens_in_words,
)
from openchat_local.app.chats.who_wrote import Answerer, who_wrote
from openchat_local.app.printable import one_line, printable
from openchat_local.app.replies.attachments import Attachment, attachments
from openchat_local.app.tui.markdown.blocks import Block, TextBlock
from openchat_local.app.tui.markdown.document import Document
from openchat_local.app.tui.markdown.layout import Place, Section
from openchat_local.app.tui.markdown.rows import Line, Row, Run
from openchat_local.app.tui.markdown.thoughts import FoldLine, asides, fold_line

if TYPE_CHECKING:
    from openchat_local.app.chats import StoredMessage

BAR = "▌ "
PREVIOUS, NEXT = "‹", "›"
"""What is clicked to see the sibling before or after a message."""


def message_section(
    message: StoredMessage,
    *,
    faded: bool = False,
    unfolded: bool = False,
    now: Answerer | None = None,
) -> Section:
    """A message under its id. Whatever a terminal could take for a command is made visible. The
    files that went along are a line each, or all of their text where they are `unfolded`; so are
    a reply's thoughts. `now` is who gives the next reply."""
    blocks = [*content_blocks(message, unfolded=unfolded), *end_blocks(message, now)]
    return Section(message.id, blocks, faded=faded, source=what_it_says(message))


def what_it_says(message: StoredMessage) -> str:
    """What is copied of a message: a reply without its thoughts, where there is more to it."""
    return answer_of(message) or message.content


def has_files(message: StoredMessage | None) -> bool:
    """Whether files went along with a prompt."""
    return message is not None and message.role == "user" and bool(attachments(message.content)[1])


def has_thoughts(message: StoredMessage | None) -> bool:
    """Whether a reply thought before it answered."""
    return message is not None and bool(divided(message).thought)


def content_blocks(message: StoredMessage, *, unfolded: bool = False) -> list[Block]:
    """The words of a message."""
    if message.role == "user":
        written, files = attachments(message.content)
        blocks = prompt_blocks(written)
        for file in files:
            blocks += _file_blocks(file, unfolded=unfolded)
        return blocks
    if message.role == "system":
        return [TextBlock(_dim(f"System: {printable(message.content)}"))]
    found = divided(message)
    blocks = Document(printable(found.answer)).blocks
    if not found.thought:
        return blocks
    usage = None if message.vote == "unvoted" else message.usage
    thoughts: list[Block] = [
        fold_line(thoughts_in_words(usage, closed=found.closed), unfolded=unfolded)
    ]
    if unfolded:
        thoughts += asides(Document(printable(found.thought)).blocks)
    return [*thoughts, *blocks]


def prompt_blocks(text: str) -> list[Block]:
    """A prompt, set off by a bar; its line breaks are its own, nothing in it is Markdown."""
    lines = printable(text).expandtabs(4).split("\n")
    return [TextBlock([Line(((line, ""),), BAR, BAR) for line in lines], kind="prompt")]


def _file_blocks(file: Attachment, *, unfolded: bool) -> list[Block]:
    lines = printable(file.text).expandtabs(4).split("\n")
    size = f"{len(lines):,} line{'' if len(lines) == 1 else 's'}, {len(file.text):,} characters"
    what = f"{'▾' if unfolded else '▸'} {one_line(file.name)}"
    about: Row = ((what, "strong"), (f"  {size} · o {'folds' if unfolded else 'opens'} it", "dim"))
    blocks: list[Block] = [
        FoldLine([Line(about, BAR, BAR)], kind="prompt", gap=False, searchable=False)
    ]
    if unfolded:
        text = [Line(((line, ""),), f"{BAR}  ", f"{BAR}  ", code=True) for line in lines]
        blocks.append(TextBlock(text, kind="prompt", gap=False, source=file.text))
    return blocks


def origin(message: StoredMessage, now: Answerer | None) -> str:
    """Who wrote a reply, where that is worth a word: it has several versions, or it is another
    who answers `now`, as far as that is known."""
    who = who_wrote(message)
    if who is None or (message.siblings <= 1 and (now is None or who.is_same(now))):
        return ""
    return who.in_words()


def end_blocks(message: StoredMessage, now: Answerer | None = None) -> list[Block]:
    """One dim line under a message: which of its siblings it is and who wrote it, how it is
    rated, how it ended and what it cost; nothing where there is nothing to say. Why it is rated
    so is a line of its own above that."""
    if message.writing:
        return []
    figures = [] if message.vote == "unvoted" else _figures(message.usage)
    words = [_edited(message), *figures]
    parts: list[Run] = []
    if message.siblings > 1:
        parts.append((f" {message.sibling}/{message.siblings} ", "dim"))
        parts = [(PREVIOUS, "strong"), *parts, (NEXT, "strong")]
    thumb = {1: "👍", -1: "👎"}.get(message.rating or 0, "")
    reason: list[Block] = []
    if thumb and message.rating_reason:
        why = Line(((f"{thumb} {one_line(message.rating_reason)}", "dim"),), "", "   ")
        reason, thumb = [TextBlock([why], kind="reply", searchable=False)], ""
    ending = _ending(message.finish_reason)
    for said in (origin(message, now), thumb, ending, " · ".join(filter(None, words))):
        if said:
            parts.append((f"  {said}" if parts else said, "dim"))
    if not parts:
        return reason
    kind, bar = ("prompt", BAR) if message.role == "user" else ("reply", "")
    line = Line(tuple(parts), bar, bar)
    gap = message.role != "user" and not reason
    return [*reason, TextBlock([line], kind=kind, gap=gap, searchable=False)]


def plain_blocks(text: str) -> list[Block]:
    """The program's own words, dim, in the place of a message."""
    return [TextBlock(_dim(text), searchable=False)]


def _dim(text: str) -> list[Line]:
    return [Line(((line, "dim"),)) for line in text.expandtabs(4).split("\n")]


def _ending(finish_reason: str | None) -> str:
    """Why a reply ended, if it did not end by itself."""
    ending = ending_in_words(finish_reason)
    return f"— {ending} —" if ending else ""


def _edited(message: StoredMessage) -> str:
    return "edited" if message.edited else ""


def _figures(usage: dict[str, Any] | None) -> list[str]:
    """Tokens, speed and the wait for the first one. The figures may come from an import."""
    if not usage:
        return []

    def figure(name: str) -> float:
        value = usage.get(name)
        return value if isinstance(value, int | float) and value > 0 else 0.0

    tokens, seconds = figure("generated_tokens"), figure("decode_seconds")
    words = [tokens_in_words(int(tokens))] if tokens else []
    if thoughts := figure("reasoning_tokens"):
        words[-1:] = [f"{' '.join(words[-1:])} ({int(thoughts):,} to think)".strip()]
    if tokens and seconds:
        speed = tokens / seconds
        words.append(f"{speed:,.{0 if speed >= 100 else 1}f} tokens/s")
    if accepted := figure("accepted_tokens"):
        words.append(f"drafts {accepted:,.0f}/{figure('drafted_tokens'):,.0f}")
    if wait := figure("time_to_first_token"):
        words.append(f"first after {wait:.2f} s")
    return words


def arrow_at(section: Section, place: Place, column: int) -> str:
    """PREVIOUS or NEXT where one of them stands on a column of a message's last line, or ""."""
    if place.row < 0 or place.block != len(section.blocks) - 1:
        return ""
    for text, style in section.rows(place.block)[place.row]:
        if style == "strong" and text in (PREVIOUS, NEXT) and -1 <= column <= 1:
            return text
        column -= cell_len(text)
    return ""
