"""What is read otherwise than it is written, counted and said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

OPENS, OPENING_LEFT_OUT = "opens", "opening left out"
TOOLS, PARTS, THOUGHTS = "tools", "parts", "thoughts"

# Of how many conversations.
SENTENCES = {
    OPENS: "Opened by the model, {count}: its first turn is context, and not learned.",
    OPENING_LEFT_OUT: "Opened by the model, {count}: its first turn is left out, since the "
    "template begins with a user's.",
    TOOLS: "With tools, {count}: calls and what came back are context, and not learned: as the "
    "template writes them where it knows tools, else as text.",
    THOUGHTS: "With thoughts in front of replies, {count}: these are left out; --thinking learns "
    "them, too.",
    PARTS: "With images, sound or files in their turns, {count}: of these turns only the text is "
    "read, and the answers may speak of what the model does not see.",
}


def remark_notes(counts: Mapping[str, int]) -> Iterator[str]:
    """A sentence on each kind of remark."""
    for key, sentence in SENTENCES.items():
        if number := counts.get(key):
            many = "1 conversation" if number == 1 else f"{number:,} conversations"
            yield sentence.format(count=many)
