"""The code in a reply, as it is copied: without fences and without colours."""

from __future__ import annotations

from dataclasses import dataclass

from openchat_local.app.tui.markdown.parsing import parser


@dataclass(frozen=True, slots=True)
class Code:
    """The text of a fenced or indented block, and the language it says it is in."""

    language: str
    text: str

    @property
    def first_line(self) -> str:
        """The first line that says something."""
        return next((line.strip() for line in self.text.splitlines() if line.strip()), "")


def code_blocks(source: str) -> list[Code]:
    """The code blocks of a Markdown text, also those inside lists and quotations."""
    return [
        Code((token.info.split() or [""])[0], token.content)
        for token in parser().parse(source)
        if token.type in ("fence", "code_block")
    ]
