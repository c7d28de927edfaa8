"""A family's template as a Jinja file, for the programs that run one: vLLM, transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template.family_template import FamilyTemplate
from openchat_local.models.template.jinja_template import JinjaTemplate
from openchat_local.models.template.rendering import Template
from openchat_local.models.template.sandbox import EmbeddedTemplate

_CONDITION = re.compile(r"(\{ ?condition\})")
_PLACES = {"{condition}": "before", "{ condition}": "behind"}
_HELLO = Message("user", "Hello there")
_CODE = Message("user", "In Python:\n```\ndef f(x):\n    return  x\n```\n")
# Where a template that is almost right goes wrong: at the borders of contents.
_CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (_HELLO,),
    (_HELLO, Message("assistant", "Hi."), Message("user", "你好 👋🏽, naïve “quotes”…")),
    (Message("system", "Be brief."), _HELLO, Message("assistant", "Hi!\nAnd you?"), _CODE),
    (_HELLO, Message("assistant", "1 + 1 = 2"), Message("system", "Now in German."), _CODE),
    (Message("user", "12345 :)"), Message("assistant", "a")),
)


def jinja_of(template: Template, condition: str) -> str | None:
    """The Jinja text that writes what `template` does, under `condition` ("" for none) unless a
    request gives another as the variable `condition`. A model's own Jinja is returned as it is;
    None for a template that is neither."""
    if isinstance(template, JinjaTemplate):
        return template.source
    return "".join(_lines(template, condition)) if isinstance(template, FamilyTemplate) else None


def difference(template: Template, condition: str) -> str | None:
    """Where the ids of `jinja_of` and those of `template` are not the same, as a few words; None
    if they are, on conversations that are likely to show it. Raises TemplateError."""
    source = jinja_of(template, condition)
    if source is None:
        return "there is no Jinja for it"
    vocabulary = template.vocabulary
    jinja = EmbeddedTemplate(source, vocabulary, advice="please report it")
    for messages in _CONVERSATIONS:
        for generate in (True, False):
            asked = [{"role": one.role, "content": one.content} for one in messages]
            try:
                text = str(jinja.write(asked, generate))
            except TemplateError:
                if isinstance(template, JinjaTemplate):
                    continue  # it takes no system turn there, and says so
                raise
            ours = template.render(Conversation(messages, condition), generate=generate)
            bos = ours.ids[:1] if ours.spans[0].kind == "bos" else []
            theirs = [*bos, *vocabulary.tokenize_template(text, after=bos[0] if bos else None)]
            if ours.ids != theirs:
                return f"after {messages[0].content!r}"
    return None


def conversations() -> Sequence[tuple[Message, ...]]:
    """What `difference` looks at."""
    return _CONVERSATIONS


def _lines(template: FamilyTemplate, condition: str) -> Iterator[str]:
    family = template.family
    end = _text(template.end_of_turn) + (
        f" ~ {_text(family.separator)}" if family.separator else ""
    )
    if family.takes_condition:
        yield f"{{%- set who = condition if condition is defined else {_text(condition)} -%}}\n"
        yield "{%- set before = who ~ ' ' if who else '' -%}\n"
        yield "{%- set behind = ' ' ~ who if who else '' -%}\n"
    if template.begins_with_bos:
        yield "{{- bos_token -}}\n"
    if family.preamble:
        preamble = _text(family.preamble).replace("{condition}", '" ~ who ~ "')
        opening = f"{preamble} ~ {_text(template.end_of_turn)}"
        yield f"{{%- if who %}}{{{{- {opening} -}}}}{{% endif -%}}\n"
    if template.default_system is not None:
        yield (
            "{%- if not messages or messages[0]['role'] != 'system' -%}\n"
            f"{_turn(family.system_header, _text(template.default_system), end)}"
            "{%- endif -%}\n"
        )
    yield "{%- set held = namespace(text='') -%}\n" if family.system_header is None else ""
    yield "{%- for message in messages -%}\n"
    yield "{%- set text = message['content'] or '' -%}\n"
    yield from _turns(template, end)
    yield "{%- endfor -%}\n"
    if family.system_header is None:
        user = _turn(family.user_header, "held.text[:-2]", end)
        yield f"{{%- if held.text -%}}\n{user}{{%- endif -%}}\n"
    yield (
        "{%- if add_generation_prompt -%}\n"
        f"{{{{- {_header(family.assistant_header)} -}}}}\n"
        "{%- endif -%}\n"
    )


def _turns(template: FamilyTemplate, end: str) -> Iterator[str]:
    """The branches of the loop, by who speaks."""
    family = template.family
    plain = "text | trim" if family.trims else "text"
    yield "{%- if message['role'] == 'system' -%}\n"
    if family.system_header is None:
        yield "{%- set held.text = held.text ~ text ~ '\\n\\n' -%}\n"
    elif family.trained_apart:
        turn = _turn(family.system_header, _spaced(template, family.system_header), end)
        yield f"{{%- if text -%}}\n{turn}{{%- endif -%}}\n"
    else:
        yield _turn(family.system_header, plain, end)
    for role, header in (("user", family.user_header), ("assistant", family.assistant_header)):
        yield f"{{%- elif message['role'] == '{role}' -%}}\n"
        content = _spaced(template, header) if template.spaces_contents else plain
        if family.system_header is not None:
            yield _turn(header, content, end)
        elif role == "user":
            yield _turn(header, f"held.text ~ ({content})", end)
            yield "{%- set held.text = '' -%}\n"
        else:
            user = _turn(family.user_header, "held.text[:-2]", end)
            yield f"{{%- if held.text -%}}\n{user}{{%- endif -%}}\n"
            yield "{%- set held.text = '' -%}\n"
            yield _turn(header, content, end)
    yield "{%- else -%}\n"
    yield "{{- raise_exception('This template has no role ' ~ message['role']) -}}\n"
    yield "{%- endif -%}\n"


def _spaced(template: FamilyTemplate, header: str) -> str:
    """A content with the space that opens it; behind a special token the tokenizer puts it."""
    if not template.spaces_contents or not header:
        return "text"
    return "(' ' ~ text if text else '')"


def _turn(header: str | None, content: str, end: str) -> str:
    head = f"{_header(header)} ~ " if header else ""
    return f"{{{{- {head}{content} ~ {end} -}}}}\n"


def _header(header: str) -> str:
    """An expression for it."""
    parts = [part for part in _CONDITION.split(header) if part]
    return " ~ ".join(_PLACES.get(part) or _text(part) for part in parts)


def _text(text: str) -> str:
    """As a string of Jinja's, which knows the escapes of Python's."""
    return json.dumps(text, ensure_ascii=False)
