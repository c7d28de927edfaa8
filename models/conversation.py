"""Conversations as every room of the program passes them around."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class SampledIds:
    """The token ids that a model wrote a turn as, little-endian int32 in `packed`, and the
    fingerprint of their vocabulary (`Vocabulary.fingerprint`; None where it was not noted).

    Whoever uses them checks them against the turn's text first: they may come from a file.
    """

    packed: bytes
    vocabulary: str | None = None

    @classmethod
    def of(cls, ids: Sequence[int], vocabulary: str | None = None) -> SampledIds:
        """These ids. Raises OverflowError for one that is no int32."""
        packed = array.array("i", ids)
        if sys.byteorder == "big":
            packed.byteswap()
        return cls(packed.tobytes(), vocabulary)

    def __len__(self) -> int:
        return len(self.packed) // 4

    @property
    def ids(self) -> Sequence[int]:
        """The ids; bytes at the end that are no whole id are left out."""
        unpacked = array.array("i", self.packed[: 4 * len(self)])
        if sys.byteorder == "big":
            unpacked.byteswap()
        return unpacked


@dataclass(frozen=True, slots=True)
class ToolCall:
    """That a reply wants the function `name` called: `arguments` are a JSON object as text. `id`
    is what the call's result comes back under."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is text and only text: no part of it is ever a control token.

    `sampled` says how a model wrote the text, token by token, where that is known: the
    tokenizer would often cut it otherwise. Turns that say the same are equal, with or
    without it.

    `calls` are what a reply wants called, behind its text. A user turn that is the `result_of` a
    call is no person's: its content is what the function gave back.
    """

    role: Role
    content: str
    sampled: SampledIds | None = field(default=None, compare=False)
    calls: tuple[ToolCall, ...] = ()
    result_of: ToolCall | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, oldest first, and the condition they are held under.

    `condition` is C-RLFT's class label (arXiv 2309.11235), such as ``"GPT4 Correct"``,
    written into every role header. ``None`` means the template family's default;
    the empty string means no condition at all, which is not the same.

    `thinking` asks a template that knows how for a reply with thoughts before the answer, or
    for one without; None is what the template does by itself.

    `tools` declares functions that a reply may call: a JSON array as OpenAI's API has it, "" for
    none. With `must_call` the prompt ends with what opens a call, so that the reply is one.
    """

    messages: tuple[Message, ...]
    condition: str | None = None
    thinking: bool | None = None
    tools: str = ""
    must_call: bool = False

    @property
    def uses_tools(self) -> bool:
        """Whether it takes a template that knows tools to write it."""
        return bool(self.tools) or any(turn.calls or turn.result_of for turn in self.messages)
