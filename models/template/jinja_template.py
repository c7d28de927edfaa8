"""The fallback: a model's embedded Jinja template, with contents kept out of its reach.

The template sees placeholders where the contents are. Its output is cut at them, its own
text is tokenised with special tokens, and the contents without: so a message cannot
become a control token here either. Logic of the template that looks into contents
(removing earlier reasoning, say) has nothing to look at.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template.families import fold_system_turns
from openchat_local.models.template.rendering import Piece, SpanKind, Template
from openchat_local.models.template.sandbox import EmbeddedTemplate
from openchat_local.models.vocabulary import Vocabulary

# White space that no template writes itself: what is left of it shows what was trimmed.
_EM_SPACE = "\u2003"
_NOTE = (
    "This model's chat template is its own (embedded Jinja, none of our families): "
    "conditions are not written."
)


class JinjaTemplate(Template):
    """`embedded` as a template. Raises TemplateError if it cannot write a conversation.

    Where it refuses or leaves out a system turn, the system text opens the first user turn.
    """

    def __init__(self, embedded: EmbeddedTemplate, vocabulary: Vocabulary) -> None:
        mark = secrets.token_hex(8)
        self._placeholder = f"{_EM_SPACE}{mark}x{{}}x{_EM_SPACE}"
        self._pattern = re.compile(f"({_EM_SPACE}?){mark}x([0-9]+)x({_EM_SPACE}?)")
        self._embedded = embedded
        self._end_of_turn = ""
        self._folds_system = False
        self._folds_system = not self._writes_system_turns()

        probe = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
        pieces = list(self._pieces(Conversation(probe), generate=True))
        reply = next(
            i for i, piece in enumerate(pieces) if (piece.kind, piece.message) == ("content", 1)
        )
        following = pieces[reply + 1].text
        found = {
            text: following.find(text) for text in vocabulary.special_literals if text in following
        }
        if found:
            self._end_of_turn = min(found, key=lambda text: (found[text], -len(text)))
        end = vocabulary.id_of(self._end_of_turn)
        super().__init__(
            "jinja",
            vocabulary,
            bos=embedded.bos,
            stop_ids=frozenset() if end is None else frozenset({end}),
            note=_NOTE,
        )
        request = pieces[-1].text
        ends_special = vocabulary.spaces_after(vocabulary.tokenize_template(request)[-1])
        self._spaced = ends_special or (pieces[reply].spaced and not request.endswith(" "))

    def _pieces(self, conversation: Conversation, generate: bool) -> Iterator[Piece]:
        messages = conversation.messages
        turns = dict(fold_system_turns(messages) if self._folds_system else enumerate(messages))
        # Nothing stands for an empty content: templates test for it.
        shown = [
            Message(turn.role, self._placeholder.format(index) if turn.content else "")
            for index, turn in turns.items()
        ]
        text = self._embedded.render(shown, generate=generate)
        written = list(self._pattern.finditer(text))
        self._check_complete(turns, {int(match[2]) for match in written})
        start, previous = 0, -1
        for match in written:
            own, start = text[start : match.start()], match.end()
            index, left, right = int(match[2]), match[1], match[3]
            content = turns[index].content
            content = content if left else content.lstrip()
            content = content if right else content.rstrip()
            # A space before a content is one token with its first word.
            spaced = own.endswith(" ") and content != ""
            yield from self._between(own[:-1] if spaced else own, previous, index)
            yield Piece("content", index, content, spaced=spaced)
            previous = index
        yield from self._between(text[start:], previous, len(messages) if generate else None)

    def _between(self, text: str, previous: int, following: int | None) -> Iterator[Piece]:
        """The template's own text between the contents of two messages."""
        if previous >= 0 and self._end_of_turn and self._end_of_turn in text:
            end, mark, text = text.partition(self._end_of_turn)
            yield Piece("end_of_turn", previous, end + mark)
        if text:
            kind: SpanKind = "separator" if following is None else "header"
            yield Piece(kind, previous if following is None else following, text)

    def _writes_system_turns(self) -> bool:
        probe = Conversation((Message("system", "a"), Message("user", "b")))
        try:
            return bool(list(self._pieces(probe, generate=True)))
        except TemplateError:
            return False

    def _check_complete(self, turns: Mapping[int, Message], written: set[int]) -> None:
        for index, message in turns.items():
            if message.content and index not in written:
                article = "an" if message.role == "assistant" else "a"
                raise self._embedded.unusable(
                    f"it leaves out message {index + 1}, {article} {message.role} turn"
                )

    def _replies_spaced(self) -> bool:
        return self._spaced
