"""Running the Jinja template that a model file brings along: untrusted code.

Jinja's immutable sandbox keeps it from Python's internals and from changing its input;
bounds on time, output and multiplication keep it from hanging or filling the machine.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from types import FrameType
from typing import Any

from openchat_local.models.conversation import Message, ToolCall
from openchat_local.models.errors import TemplateError
from openchat_local.models.template.marked import OWN, UNKNOWN, Marked, join, mark, marks, pieces
from openchat_local.models.template.thoughts import FIELDS, Thoughts
from openchat_local.models.template.vocabulary import Vocabulary, encodable

TIME_LIMIT = 2.0  # seconds of this thread's own time: a busy machine changes nothing
SECONDS_A_CHARACTER = 1e-6  # more for contents, which templates copy and search
SOURCE_LIMIT = 500_000  # characters; published ones have up to thirty thousand
_BOS_MARK = "\ue0b0\ue0b5"  # stands for BOS while a template runs
# Variables that templates ask whether a reply is to think, and what they are for no and for yes.
_SWITCHES: Mapping[str, tuple[bool | int, bool | None]] = {
    "enable_thinking": (False, True),
    "thinking": (False, True),
    "thinking_budget": (0, None),
}
OUTPUT_LIMIT = 4_000_000  # characters, besides the contents


class EmbeddedTemplate:
    """A model's own chat template, compiled. `advice` ends the sentence of every error."""

    def __init__(self, source: str, vocabulary: Vocabulary, *, advice: str) -> None:
        """Raises TemplateError if `source` is not Jinja or fails on a single user turn."""
        self._vocabulary = vocabulary
        self._advice = advice
        self.tells_time = "strftime_now" in source
        self.source = source
        self._switches = [name for name in _SWITCHES if re.search(rf"\b{name}\b", source)]
        self._tools: list[object] | None = None
        try:
            if len(source) > SOURCE_LIMIT:
                raise OverflowError(f"it is {len(source):,} characters long")
            with _deadline(TIME_LIMIT):  # Jinja computes constants while it compiles
                self._template = _environment().from_string(source)
        except Exception as error:
            raise self.unusable(error) from error
        asked = [{"role": "user", "content": "a"}]
        try:
            self._run(asked, True, "")
        except TemplateError as error:
            if not isinstance(error.__cause__, TypeError):
                raise
            self._tools = []  # it goes through them unasked
            self._run(asked, True, "")

    @cached_property
    def bos(self) -> bool:
        """Whether prompts begin with BOS: by the model's metadata, or by this template."""
        asked = [{"role": "user", "content": "a"}]
        return self._vocabulary.adds_bos or self._run(asked, True, self._bos) != self._run(
            asked, True, ""
        )

    def render(self, messages: Sequence[Message], *, generate: bool) -> str:
        """The prompt as text, BOS left out (see `bos`).

        Raises TemplateError if the template fails or overdoes it.
        """
        return self.marked(list(enumerate(messages)), generate=generate)

    def marked(
        self,
        turns: Sequence[tuple[int, Message]],
        *,
        generate: bool,
        thoughts: Thoughts | None = None,
        thinking: bool | None = None,
        tools: str = "",
    ) -> Marked:
        """The prompt, in which each character bears the number of the turn that it comes from,
        or OWN. The `thoughts` of replies stand in their own field; `tools` as a conversation's.
        Raises TemplateError like `render`."""
        try:
            messages = [_fields(message, index, thoughts) for index, message in turns]
        except RecursionError:
            raise TemplateError("A call's arguments are nested too deeply.") from None
        return self.write(messages, generate, thinking, tools)

    def write(
        self,
        messages: Sequence[Mapping[str, Any]],
        generate: bool,
        thinking: bool | None = None,
        tools: str = "",
    ) -> Marked:
        """The prompt of messages as they are, BOS left out; `thinking` and `tools` as a
        conversation's. Raises TemplateError."""
        prompt = self._run(messages, generate, _BOS_MARK, thinking, tools)
        prompt = prompt.removeprefix(_BOS_MARK) if _begins(prompt, _BOS_MARK) else prompt
        if _BOS_MARK in prompt:  # in the middle, where a late system turn has its own
            parts = pieces(prompt)
            own = (
                (text.replace(_BOS_MARK, self._bos), w) if w == OWN else (text, w)
                for text, w in parts
            )
            prompt = join("", [mark(text, whose) for text, whose in own])
        # Some write BOS literally. Where the metadata asks for no BOS such a literal can be
        # the first token of a header (SmolLM2's BOS is <|im_start|>): it stays.
        literal = self._bos if self._vocabulary.adds_bos else ""
        return prompt.removeprefix(literal) if literal and _begins(prompt, literal) else prompt

    @cached_property
    def switches_thinking(self) -> bool:
        """Whether the template can be asked for a reply with thoughts, or for one without."""
        asked = [{"role": "user", "content": "a"}]
        try:
            return bool(self._switches) and self.write(asked, True, True) != self.write(
                asked, True, False
            )
        except TemplateError:
            return False

    @property
    def _bos(self) -> str:
        return _literal(self._vocabulary, self._vocabulary.bos_id)

    def _run(
        self,
        messages: Sequence[Mapping[str, Any]],
        generate: bool,
        bos: str,
        thinking: bool | None = None,
        tools: str = "",
    ) -> Marked:
        from openchat_local.models.template.bounds import room_for

        contents = sum(len(str(value)) for message in messages for value in message.values())
        contents += len(tools)
        parts: list[str] = []
        length = 0
        try:
            seconds = TIME_LIMIT + SECONDS_A_CHARACTER * contents
            with _deadline(seconds), room_for(contents):
                for part in self._template.generate(
                    messages=[dict(message) for message in messages],
                    add_generation_prompt=generate,
                    tools=_marked_values(json.loads(tools), UNKNOWN) if tools else self._tools,
                    documents=None,
                    bos_token=bos,
                    eos_token=_literal(self._vocabulary, self._vocabulary.eos_id),
                    **self._asked_to_think(thinking),
                ):
                    parts.append(part)
                    length += len(part)
                    if length > OUTPUT_LIMIT + 4 * contents:
                        raise OverflowError("it writes without end")
        except Exception as error:
            raise self.unusable(error) from error
        return join("", parts)

    def _asked_to_think(self, thinking: bool | None) -> dict[str, bool | int]:
        """The variables that say so. What is by itself is not said: templates tell "not said"
        from both."""
        if thinking is None:
            return {}
        values = {name: _SWITCHES[name][thinking] for name in self._switches}
        return {name: value for name, value in values.items() if value is not None}

    def unusable(self, reason: object) -> TemplateError:
        """The error for a template that cannot be used because of `reason`."""
        what = str(reason).strip().rstrip(".") or type(reason).__name__
        return TemplateError(
            f"The model's own chat template cannot be used: {what}; {self._advice}."
        )


def _begins(prompt: Marked, text: str) -> bool:
    """Whether `text` of the template's own opens the prompt."""
    return prompt.startswith(text) and marks(prompt[: len(text)]) is None


def _fields(message: Message, index: int, thoughts: Thoughts | None) -> dict[str, Any]:
    content: str = mark(encodable(message.content), index)
    if (call := message.result_of) is not None:
        whose = {"name": mark(call.name, index), "tool_call_id": _call_id(call)}
        return {"role": "tool", "content": content, **whose}
    thought: str | None = None
    if thoughts is not None and message.role == "assistant":
        thought, content = thoughts.split(content)
    named: dict[str, Any] = {} if thought is None else dict.fromkeys(FIELDS, thought)
    if message.calls:
        named["tool_calls"] = [_call(call, index) for call in message.calls]
    return {"role": message.role, "content": content, **named}


def _call(call: ToolCall, index: int) -> dict[str, Any]:
    """A call as templates take it, its arguments as an object; all that is in it is a
    message's."""
    arguments = _marked_values(json.loads(call.arguments), index)
    function = {"name": mark(encodable(call.name), index), "arguments": arguments}
    return {"type": "function", "id": _call_id(call), "function": function}


def _call_id(call: ToolCall) -> str:
    """Nine letters and digits, for Mistral's templates insist on them."""
    if re.fullmatch("[A-Za-z0-9]{9}", call.id):
        return call.id
    return hashlib.blake2b(call.id.encode("utf-8", "replace"), digest_size=5).hexdigest()[:9]


def _marked_values(value: Any, whose: int) -> Any:
    """JSON all of whose texts are marked, names included."""
    if isinstance(value, str):
        return mark(encodable(value), whose)
    if isinstance(value, list):
        return [_marked_values(item, whose) for item in value]
    if isinstance(value, dict):
        return {
            mark(encodable(name), whose): _marked_values(item, whose)
            for name, item in value.items()
        }
    return value


def _literal(vocabulary: Vocabulary, id: int | None) -> str:
    return "" if id is None else vocabulary.piece(id).decode("utf-8", "replace")


def _environment() -> Any:
    import jinja2.ext
    import jinja2.nodes
    import jinja2.parser

    from openchat_local.models.template.bounds import BoundedSandbox

    class Generation(jinja2.ext.Extension):
        """`{% generation %}`, which transformers uses to mark replies: renders its body."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    # The settings and names that transformers gives to chat templates.
    environment = BoundedSandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.add_filter("tojson", _to_json)
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = time.strftime
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """With the options, and in the order, that transformers gives it."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise ValueError(message)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in this thread's Python code after `seconds`.

    A trace function, because it works in any thread and on every system, and reaches
    into a loop that writes nothing. Templates are compiled to Python.
    """
    end = time.thread_time() + seconds
    previous = sys.gettrace()

    events = count(1)

    def check(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        # The clock costs more than most lines do, and a line takes no time to speak of.
        if next(events) % 64 == 0 and time.thread_time() > end:
            raise TimeoutError("it does not come to an end")
        return check

    sys.settrace(check)
    try:
        yield
    finally:
        sys.settrace(previous)
