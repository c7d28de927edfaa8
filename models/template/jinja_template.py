"""The fallback: a model's embedded Jinja template, run over the contents as they are.

The template may look into contents, as many do to leave out the thoughts of earlier
replies. What it writes says of every character whether it is the template's own (see
`marked`); only its own text can name special tokens: so a message cannot become a
control token here either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template.calls import tool_marks_of
from openchat_local.models.template.families import FAMILIES, fold_system_turns
from openchat_local.models.template.marked import OWN, Marked, pieces
from openchat_local.models.template.rendering import Rendered, SpanKind, Template
from openchat_local.models.template.sandbox import EmbeddedTemplate
from openchat_local.models.template.thoughts import marks_of, thoughts_of
from openchat_local.models.template.tokens import Token, tokens_of
from openchat_local.models.template.vocabulary import Vocabulary

_NOTE = (
    "This model's chat template is its own (embedded Jinja, none of our families): "
    "conditions are not written."
)
_PROBE = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))


class JinjaTemplate(Template):
    """`embedded` as a template. Raises TemplateError if it cannot write a conversation.

    Where it refuses or leaves out a system turn, the system text opens the first user turn.
    A reply ends with the vocabulary's ends of generation. What follows a message in the
    template ends it only where a family's end of turn does: other tokens may close a part
    of a reply, its thoughts, say.
    """

    def __init__(self, embedded: EmbeddedTemplate, vocabulary: Vocabulary) -> None:
        self._embedded = embedded
        self.vocabulary = vocabulary
        self._thoughts = thoughts_of(embedded.write)
        self._folds_system = False
        self._folds_system = not self._writes_system_turns()
        probe = Conversation(_PROBE)
        asked, closed = self._prompt(probe, generate=True), self._prompt(probe, generate=False)
        vocabulary = vocabulary.guarding(text for text, whose in pieces(asked) if whose == OWN)
        self._asks = asked != closed
        ends = {
            *_ends(asked, vocabulary),
            *_ends(self._prompt(Conversation(_PROBE[:2]), generate=False), vocabulary),
        }
        families = {vocabulary.id_of(family.end_of_turn or "") for family in FAMILIES}
        super().__init__(
            "jinja",
            vocabulary,
            bos=embedded.bos,
            stop_ids=frozenset(ends & families),
            note=_NOTE,
            thoughts=marks_of(embedded.write, embedded.source, vocabulary),
            switches_thinking=embedded.switches_thinking,
        )
        self.tools = tool_marks_of(embedded)
        self.source = embedded.source
        self._ends = ends | self.stop_ids
        stretches = [*pieces(asked)]
        reply = next(i for i, (_, whose) in enumerate(stretches) if whose == 1)
        request = stretches[-1][0]
        after = vocabulary.tokenize_template(request)[-1] if request else None
        wants_space = stretches[reply - 1][0].endswith(" ") and not request.endswith(" ")
        self._spaced = vocabulary.spaces_after(after) or wants_space
        self._request_ids: list[int] = []
        self._drops_space = wants_space
        if self._asks:
            last = self._rendered(asked, _PROBE, True)
            self._request_ids = last.ids[last.spans[-1].start :]

    def render(
        self,
        conversation: Conversation,
        *,
        generate: bool = True,
        continues: bool = False,
    ) -> Rendered:
        messages, tools = conversation.messages, self.tools
        if conversation.uses_tools and tools is None:
            return self._with_tools(conversation, generate=generate, continues=continues)
        if continues:
            return self._begun(conversation)
        rendered = self._rendered(self._prompt(conversation, generate), messages, generate)
        if conversation.must_call and generate and tools is not None:
            opens = self.vocabulary.tokenize_template(tools.opens, after=rendered.ids[-1])
            rendered.append("header", len(messages), opens)
        return rendered

    def _begun(self, conversation: Conversation) -> Rendered:
        """A prompt that ends in the middle of the last message, behind what asked for it."""
        messages = conversation.messages
        index, last = len(messages) - 1, messages[-1]
        if self._asks:
            prompt = self._prompt(replace(conversation, messages=messages[:-1]), generate=True)
        else:
            prompt = self._prompt(conversation, generate=False)
            at = 0
            for text, whose in pieces(prompt):
                if whose == index:
                    break
                at += len(text)
            prompt = prompt[:at]
            prompt = prompt.removesuffix(" ") if self._drops_space else prompt
        rendered = self._rendered(prompt, messages[:-1], True)
        rendered.append("content", index, self._begun_ids(last, self.opened(rendered)))
        return rendered

    def _begun_ids(self, reply: Message, opened: str) -> Sequence[int]:
        """A reply that is gone on with, as its model wrote it: the marks of its thoughts are the
        tokens that they were. `opened` is the one that the prompt has written for it."""
        marks, vocabulary, spaced = self.thoughts, self.vocabulary, self._spaced
        text = reply.content
        if marks is None or not text.lstrip().startswith(marks.opens):
            ids = self.sampled_ids(reply)
            return ids or vocabulary.tokenize_content(text, leading_space=spaced)
        written = text.removeprefix(opened) if opened else text
        around = marks.opens + marks.closes
        allowed = frozenset(id for _, _, id in vocabulary.special_spans(around))
        ids = self._sampled(reply, written, allowed - self.stop_ids)
        if ids is not None:
            return ids
        before, mark, inside = ("", "", written) if opened else written.partition(marks.opens)
        thought, closes, answer = inside.partition(marks.closes)
        return [
            *vocabulary.tokenize_template(before + mark),
            *vocabulary.tokenize_content(thought),
            *vocabulary.tokenize_template(closes),
            *vocabulary.tokenize_content(answer),
        ]

    def _rendered(
        self,
        prompt: Marked,
        messages: Sequence[Message],
        generate: bool,
    ) -> Rendered:
        def given(index: int, text: str) -> Sequence[int] | None:
            # Ids stand for a whole reply; of one that the template has cut they say nothing.
            if index < 0 or text != messages[index].content:
                return None
            return self.sampled_ids(messages[index])

        rendered = Rendered()
        after = self.vocabulary.bos_id if self._bos else None
        if after is not None:
            rendered.append("bos", 0, [after])
        tokens = tokens_of(
            prompt,
            self.vocabulary,
            after=after,
            given=given,
            drops_space=self._drops_space,
            replies={i for i, message in enumerate(messages) if message.role == "assistant"},
        )
        following = len(messages) if generate else None
        for kind, message, ids in self._spans([*tokens], messages, following):
            rendered.append(kind, message, ids)
        return rendered

    def _spans(
        self, tokens: Sequence[Token], messages: Sequence[Message], following: int | None
    ) -> Iterator[tuple[SpanKind, int, list[int]]]:
        """The tokens as spans: contents, and what the template has put between them."""
        groups = [
            (whose, [*group])
            for whose, group in groupby(tokens, key=lambda token: max(token.whose, OWN))
        ]
        previous = OWN
        for number, (whose, group) in enumerate(groups):
            ids = [token.id for token in group]
            if whose != OWN:
                yield "content", whose, ids
                previous = whose
                continue
            upcoming = groups[number + 1][0] if number + 1 < len(groups) else following
            if previous != OWN and upcoming == previous:
                # Marks around thoughts, say, which the model has to write itself.
                yield "content", previous, ids
                continue
            end = 0
            if previous != OWN:
                ends = (
                    i for i, token in enumerate(group) if token.special and token.id in self._ends
                )
                end = next(ends, -1) + 1
                yield "end_of_turn", previous, ids[:end]
            kind: SpanKind = "separator" if upcoming is None else "header"
            header = len(ids)
            if upcoming is not None and upcoming < len(messages):
                header = end + self._header_length(messages[upcoming], ids[end:])
            yield kind, previous if upcoming is None else upcoming, ids[end:header]
            if header < len(ids) and upcoming is not None:
                yield "content", upcoming, ids[header:]

    def _header_length(self, message: Message, ids: Sequence[int]) -> int:
        """How many of the ids before a content ask for it: what the template writes after
        that in front of a reply, such as a mark of thoughts, the model has to write itself."""
        request = self._request_ids
        if message.role != "assistant" or not request:
            return len(ids)
        for start in range(len(ids) - len(request), -1, -1):
            end = start + len(request)
            if ids[start:end] == request:
                return len(ids) if self._ends.intersection(ids[end:]) else end
        return len(ids)

    def _prompt(self, conversation: Conversation, generate: bool) -> Marked:
        """What the template writes, every message's content in it."""
        messages = conversation.messages
        turns = dict(fold_system_turns(messages) if self._folds_system else enumerate(messages))
        prompt = self._written(turns, generate, conversation)
        self._check_complete(prompt, turns, generate, conversation)
        self._check_control(prompt, turns, conversation.tools)
        return prompt

    def _written(
        self, turns: Mapping[int, Message], generate: bool, conversation: Conversation
    ) -> Marked:
        return self._embedded.marked(
            [*turns.items()],
            generate=generate,
            thoughts=self._thoughts,
            thinking=conversation.thinking,
            tools=conversation.tools,
        )

    def _writes_system_turns(self) -> bool:
        try:
            turns = Message("system", "a"), Message("user", "b")
            return bool(self._prompt(Conversation(turns), generate=True))
        except TemplateError:
            return False

    def _check_complete(
        self,
        prompt: Marked,
        turns: Mapping[int, Message],
        generate: bool,
        conversation: Conversation,
    ) -> None:
        written = {whose for _, whose in pieces(prompt)}
        missing = [i for i, turn in turns.items() if turn.content.strip() and i not in written]
        if not missing:
            return
        # A template may leave out a text (only thoughts, a switch), but not a turn.
        plain = {
            index: replace(turn, content="a") if index in missing else turn
            for index, turn in turns.items()
        }
        again = self._written(plain, generate, conversation)
        written = {whose for _, whose in pieces(again)}
        for index in missing:
            if index not in written:
                role = turns[index].role
                article = "an" if role == "assistant" else "a"
                raise self._embedded.unusable(
                    f"it leaves out message {index + 1}, {article} {role} turn"
                )

    def _check_control(self, prompt: Marked, turns: Mapping[int, Message], tools: str) -> None:
        """Raise if a control token of the template has been mixed with a content in a way that
        the marks do not follow: it would be spelled out, and the prompt be another."""
        calls = (f"{call.name}\n{call.arguments}" for turn in turns.values() for call in turn.calls)
        said = "\n".join([*(turn.content for turn in turns.values()), *calls, tools])
        for text, whose in pieces(prompt):
            for start, end, _ in self.vocabulary.special_spans(text) if whose != OWN else ():
                if text[start:end] not in said:
                    raise self._embedded.unusable(
                        f"it mixes its {text[start:end]} with what a message says"
                    )

    def _replies_spaced(self) -> bool:
        return self._spaced


def _ends(prompt: Marked, vocabulary: Vocabulary) -> Iterator[int]:
    """The special token that follows the assistant's turn (number 1), if any does."""
    stretches = [*pieces(prompt)]
    for (_, whose), (text, owner) in pairwise(stretches):
        if whose == 1 and owner == OWN:
            for _, _, id in vocabulary.special_spans(text):
                yield id
                return
