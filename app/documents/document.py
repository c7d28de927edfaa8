"""What was read of a document, and how it says that it cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openchat_local.models.errors import OpenChatError

LARGEST_TEXT = 4_000_000
"""Characters of one document: a shelf of books, and far more than any context holds."""


class Unreadable(OpenChatError):
    """A document of which no text can be had. `reason` goes on after its name, `remedy` is what
    to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"The document {reason}: {remedy}.")
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Page:
    """A page, a slide, a sheet, a chapter, or all of the document. `label` is its number, or the
    name of a sheet. `pictured` says that a page without text has something on it."""

    label: str
    text: str
    pictured: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a document.

    `form` is what it is ("PDF", "Word document"), `unit` what its pages are called, "" where it
    has none. `total` is how many pages it has; `pages` are fewer where reading was stopped, of
    which a sentence in `notes` says why.
    """

    form: str
    unit: str
    pages: tuple[Page, ...]
    total: int
    notes: tuple[str, ...] = ()

    def text(self, numbers: Iterable[int] | None = None) -> str:
        """The pages of these numbers, from 1, or all, each under its name where there are
        several."""
        chosen = range(1, len(self.pages) + 1) if numbers is None else numbers
        pages = [self.pages[number - 1] for number in chosen]
        if not self.unit or self.total == 1:
            return "\n\n".join(page.text for page in pages)
        return "\n\n".join(f"[{self.unit} {page.label}]\n{page.text}" for page in pages)

    @property
    def without_text(self) -> tuple[int, ...]:
        """The numbers of the pages on which something is, and no text: scanned ones, pictures."""
        return tuple(
            number
            for number, page in enumerate(self.pages, 1)
            if page.pictured and not page.text.strip()
        )
