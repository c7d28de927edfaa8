"""Token ids from pieces of a conversation: what every template has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template.vocabulary import ContentDecoder, Vocabulary
from openchat_local.models.thoughts import ThoughtMarks
from openchat_local.models.tools import ToolMarks

SpanKind = Literal["bos", "header", "content", "end_of_turn", "separator"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a prompt as text. Only "content" is untrusted.

    `message` is the message's index; -1 is a default system prompt and, of the header
    that asks for a reply, the number of messages. `spaced` content begins with one space
    that is not part of it.
    """

    kind: SpanKind
    message: int
    text: str
    spaced: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Which of the ids, from `start` up to `end`, a piece became; never empty."""

    kind: SpanKind
    message: int
    start: int
    end: int


@dataclass(slots=True)
class Rendered:
    """A prompt: token ids, and the spans that cover them without a gap."""

    ids: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    def append(self, kind: SpanKind, message: int, ids: Sequence[int]) -> None:
        """Add the ids of one piece."""
        if ids:
            start = len(self.ids)
            self.ids.extend(ids)
            self.spans.append(Span(kind, message, start, len(self.ids)))


class Template(ABC):
    """How one model's prompts are written.

    `name` is a family's or "jinja". `default_condition` stands in where a conversation
    has none ("" for no condition). `note` is a sentence that the user should see.
    `stop_ids` end a reply: the end of turn and the vocabulary's ends of generation. `thoughts`
    are the marks of what a reply thinks before it answers, None where it does not;
    `switches_thinking` says whether a conversation's `thinking` changes its prompt. `tools` says
    how calls of functions are written, None where the model knows none.
    """

    def __init__(
        self,
        name: str,
        vocabulary: Vocabulary,
        *,
        bos: bool,
        stop_ids: frozenset[int],
        default_condition: str = "",
        note: str | None = None,
        thoughts: ThoughtMarks | None = None,
        switches_thinking: bool = False,
    ) -> None:
        self.tools: ToolMarks | None = None
        self._for_tools: Template | None = None
        self.thoughts = thoughts
        self.switches_thinking = switches_thinking
        self.name = name
        self.vocabulary = vocabulary
        self.default_condition = default_condition
        self.note = note
        self.stop_ids = stop_ids | vocabulary.end_of_generation_ids
        self._bos = bos

    @abstractmethod
    def render(
        self,
        conversation: Conversation,
        *,
        generate: bool = True,
        continues: bool = False,
    ) -> Rendered:
        """The prompt of `conversation`; with `generate` it ends in the assistant's header.

        With `continues` the last message, which must not be empty, is a reply to be
        continued: its turn is left open, and its text stands as it is, also where a family trims.
        A reply that carries the ids that it was sampled as, which need not be those that its
        text would be tokenised to, is written with them where they hold (`sampled_ids`).
        Raises TemplateError if the conversation cannot be written.
        """

    def know_tools(self, template: Template) -> None:
        """Let `template` write the conversations that use tools, if it knows any."""
        if template.tools is not None:
            self.tools, self._for_tools = template.tools, template

    def _with_tools(
        self, conversation: Conversation, *, generate: bool, continues: bool
    ) -> Rendered:
        if self._for_tools is None:
            raise TemplateError(
                "The model's chat template has no place for tools: leave them out, or ask a model "
                "that was trained to call them."
            )
        return self._for_tools.render(conversation, generate=generate, continues=continues)

    def sampled_ids(self, message: Message) -> Sequence[int] | None:
        """The ids that a reply was sampled as; None where it has to be tokenised.

        They are used only if they are this vocabulary's, say exactly the reply's text, and
        none of them is a control token or ends a turn: that is enough to be right, also
        where the vocabulary was not noted and where the ids come from somebody's file.
        """
        return self._sampled(message, message.content)

    def _sampled(
        self, message: Message, text: str, allowed: frozenset[int] = frozenset()
    ) -> Sequence[int] | None:
        """The ids that `text`, a reply or the part of one that its model wrote, was sampled as,
        control tokens among those `allowed`; None where it has to be tokenised."""
        sampled = message.sampled
        if sampled is None or message.role != "assistant" or not text:
            return None
        vocabulary = self.vocabulary
        if sampled.vocabulary is not None and sampled.vocabulary != vocabulary.fingerprint:
            return None
        ids = sampled.ids
        if not self.stop_ids.isdisjoint(ids):
            return None
        spaced = self._replies_spaced()
        is_it = vocabulary.spells(ids, text, leading_space=spaced, allowed=allowed)
        return ids if is_it else None

    def opened(self, rendered: Rendered) -> str:
        """The mark that a prompt has opened the reply's thoughts with, white space behind it
        included; "" where it has not."""
        marks, spans = self.thoughts, rendered.spans
        if marks is None or not spans:
            return ""
        # A continued reply stands behind it.
        last = spans[-2] if spans[-1].kind == "content" and len(spans) > 1 else spans[-1]
        if last.kind != "header":
            return ""
        header = self.vocabulary.detokenize(rendered.ids[last.start : last.end])
        _, mark, rest = header.decode("utf-8", "replace").rpartition(marks.opens)
        return mark + rest if mark and not rest.strip() else ""

    def content_decoder(self) -> ContentDecoder:
        """A decoder for the content ids of one assistant turn, sampled or rendered."""
        return ContentDecoder(self.vocabulary, leading_space=self._replies_spaced())

    @abstractmethod
    def _replies_spaced(self) -> bool:
        """Whether an assistant's content begins with a space that is not part of it."""


class PieceTemplate(Template):
    """One that knows its prompts piece by piece, each of which is tokenised by itself."""

    def render(
        self,
        conversation: Conversation,
        *,
        generate: bool = True,
        continues: bool = False,
    ) -> Rendered:
        if conversation.uses_tools:
            return self._with_tools(conversation, generate=generate, continues=continues)
        vocabulary, rendered = self.vocabulary, Rendered()
        if self._bos and vocabulary.bos_id is not None:
            rendered.append("bos", 0, [vocabulary.bos_id])
        for piece in self._pieces(conversation, generate and not continues):
            is_open = continues and _is_last_content(piece, conversation)
            text = conversation.messages[-1].content if is_open else piece.text
            after = rendered.ids[-1] if rendered.ids else None
            ids: Sequence[int] | None = None
            if piece.kind != "content":
                ids = vocabulary.tokenize_template(piece.text, after=after)
            elif piece.message >= 0:
                ids = self.sampled_ids(conversation.messages[piece.message])
            if ids is None:
                leading_space = piece.spaced or vocabulary.spaces_after(after)
                ids = vocabulary.tokenize_content(text, leading_space=leading_space)
            rendered.append(piece.kind, piece.message, ids)
            if is_open:
                break
        return rendered

    @abstractmethod
    def _pieces(self, conversation: Conversation, generate: bool) -> Iterator[Piece]:
        """The pieces of the prompt after BOS. Raises TemplateError."""


def _is_last_content(piece: Piece, conversation: Conversation) -> bool:
    return piece.kind == "content" and piece.message == len(conversation.messages) - 1
