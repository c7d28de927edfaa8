"""No template at all: the text as it is, for base models, which continue what they read."""

from __future__ import annotations

from collections.abc import Iterator

from openchat_local.models.conversation import Conversation
from openchat_local.models.template.rendering import Piece, PieceTemplate
from openchat_local.models.template.vocabulary import Vocabulary

RAW = "raw"


class RawTemplate(PieceTemplate):
    """The turns one after the other, nothing between them but a blank line after a system
    turn; BOS where the vocabulary wants one. Control tokens in the text are text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(RAW, vocabulary, bos=vocabulary.adds_bos, stop_ids=frozenset())

    def _pieces(self, conversation: Conversation, generate: bool) -> Iterator[Piece]:
        for number, message in enumerate(conversation.messages):
            yield Piece("content", number, message.content)
            if message.role == "system":
                yield Piece("separator", number, "\n\n")

    def _replies_spaced(self) -> bool:
        return False
