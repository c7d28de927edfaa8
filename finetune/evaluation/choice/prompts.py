"""The token ids of a question's options: through the chat template, or as plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import Engine
from openchat_local.models.engine.remote.engine import RemoteEngine
from openchat_local.models.errors import EngineError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import read_adapter, read_card
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary

Pair = tuple[tuple[int, ...], tuple[int, ...]]  # a prompt, and what may follow it


class Writer(Protocol):
    """Writes questions for one model."""

    def conversation(self, question: str) -> Conversation:
        """One user turn that asks `question`."""
        ...

    def prompt_tokens(self, question: str) -> int:
        """How many tokens ask for a reply to `question`; 0 where nobody can tell."""
        ...

    def options(self, question: Question) -> list[Pair]:
        """Of each option the ids of its prompt and of its continuation; neither is empty."""
        ...


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """Writes questions for one model. `template` is its own, `condition` what stands in role
    headers ("" for none). With `plain` there is no template: the text as lm-evaluation-harness
    gives it to a base model."""

    template: Template
    condition: str
    plain: bool = False

    def conversation(self, question: str) -> Conversation:
        """One user turn that asks `question`."""
        return Conversation((Message("user", question),), self.condition)

    def prompt_tokens(self, question: str) -> int:
        """How many tokens ask for a reply to `question`."""
        return len(self.template.render(self.conversation(question)).ids)

    def options(self, question: Question) -> list[Pair]:
        """Of each option the ids of its prompt and of its continuation; neither is empty."""
        pair = self._plain_pair if self.plain else self._reply_pair
        pairs = zip(question.contexts, question.continuations, strict=True)
        return [pair(context, continuation) for context, continuation in pairs]

    def _reply_pair(self, context: str, continuation: str) -> Pair:
        """The continuation is what the assistant replies, without a space in front."""
        asked = self.conversation(context)
        messages = (*asked.messages, Message("assistant", continuation))
        rendered = self.template.render(Conversation(messages, self.condition), continues=True)
        start = next(
            span.start for span in rendered.spans if span.kind == "content" and span.message == 1
        )
        return tuple(rendered.ids[:start]), tuple(rendered.ids[start:])

    def _plain_pair(self, context: str, continuation: str) -> Pair:
        """The continuation is what the tokens of the whole text have more than those of the
        context, after a space, as lm_eval.api.model's `_encode_pair` has it: white space at the
        context's end is the continuation's, since words are tokenised with the one before."""
        prompt = self._plain(context.rstrip())
        whole = self._plain(f"{context} {continuation}")
        return prompt, whole[min(len(prompt), len(whole) - 1) :]

    def _plain(self, text: str) -> tuple[int, ...]:
        vocabulary = self.template.vocabulary
        begin = vocabulary.bos_id if vocabulary.adds_bos else None
        ids = vocabulary.tokenize_content(text, leading_space=vocabulary.spaces_after(begin))
        return tuple(ids) if begin is None else (begin, *ids)


@dataclass(frozen=True, slots=True)
class RemoteWriter:
    """The same for a model of a remote engine, which cuts texts into its tokens itself."""

    engine: RemoteEngine
    condition: str | None

    def conversation(self, question: str) -> Conversation:
        return Conversation((Message("user", question),), self.condition)

    def prompt_tokens(self, question: str) -> int:
        return 0

    def options(self, question: Question) -> list[Pair]:
        contexts = {
            one: self.engine.prompt_ids(self.conversation(one)) for one in question.contexts
        }
        pairs = zip(question.contexts, question.continuations, strict=True)
        return [(contexts[context], self.engine.tokenize(reply)) for context, reply in pairs]


def writer_through(engine: Engine, contender: Contender, *, plain: bool = False) -> Writer:
    """How `contender` is asked through `engine`, which is its own.

    Raises as `writer_for`, and EngineError where a remote one is to read plain text.
    """
    if not isinstance(engine, RemoteEngine):
        return writer_for(contender, plain=plain)
    if plain:
        raise EngineError(
            f"{contender.label} is asked through its own chat template: leave --plain away."
        )
    return RemoteWriter(engine, contender.condition)


def writer_for(contender: Contender, *, plain: bool = False) -> PromptWriter:
    """How `contender` is asked: under its condition, or its adapter's, or its model's own.

    llama.cpp reads the vocabulary in this process: an engine has loaded the model before, which
    may die of a file that lies. Raises ModelFileError, AdapterError or TemplateError.
    """
    file = read_gguf(contender.model)
    template = choose_template(file, Vocabulary.open(contender.model), contender.template)
    adapter = contender.choice.path
    wishes = (
        contender.condition,
        None if adapter is None else read_adapter(adapter).card.condition,
        read_card(file.metadata).condition,
        template.default_condition,
    )
    condition = next(wish for wish in wishes if wish is not None)
    return PromptWriter(template, condition, plain)
