"""What reading somebody's chats brings to light: what is wrong, and what was changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from openchat_local.app.chats.formats.checks import Faults

IMAGE = "an image is left out; [image] stands in its place"
AUDIO = "a sound is left out; [audio] stands in its place"
FILE = "a file is left out; its name stands in its place"
THOUGHTS = "the model's thoughts are left out"
HIDDEN = "what that program did not show is left out"
TOOL_CALL = "the call of a tool is kept as text"
TOOL_ANSWER = "the answer of a tool is kept as a turn of the user's"
SURROGATE = "half a character is replaced by \N{REPLACEMENT CHARACTER}"
EMPTY = "it has no turn, so there is nothing to keep of it"
UNKNOWN_PART = "a part of a kind that is not known here is left out"
UNKNOWN_FIGURE = "a figure of a reply is not understood and left out"
ERROR = "an error that stands in the place of a reply is left out"
NO_SNAPSHOT = "a rating comes without the chat it is about and is left out"
NO_REPLY = "a rating is about a reply that is not in its chat and is left out"
NO_VERDICT = "a feedback says neither good nor bad and is left out"


@dataclass(slots=True)
class Findings:
    """Faults, each of which keeps its chat from being imported, and notes: what was left out
    or changed, as (what, where)."""

    faults: Faults = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def fault(self, sentence: str) -> None:
        self.faults.append(sentence)

    def note(self, kind: str, place: str) -> None:
        self.notes.append((kind, place.removesuffix(", ") or "the file"))


def summary(notes: list[tuple[str, str]]) -> Iterator[str]:
    """One sentence for each kind of note, with how often and where first."""
    first: dict[str, str] = {}
    for kind, place in notes:
        first.setdefault(kind, place)
    for kind, count in Counter(kind for kind, _ in notes).items():
        times = "" if count == 1 else f", and {count - 1:,} more"
        yield f"{first[kind]}{times}: {kind}."


def cleaned(text: str, place: str, findings: Findings) -> str:
    """The text as UTF-8 can hold it."""
    if text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    findings.note(SURROGATE, place)
    # Two halves that belong together become what they were meant to be.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
