"""Templates of models that think: prompts equal transformers', and what they know of thoughts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.template import Template
from openchat_local.models.thoughts import USUAL, ThoughtMarks

Jinja = Callable[..., Template]
LlamaIds = Callable[[str, str], list[int]]

END = "<|im_end|>\n"
# What published templates do, each in a template of its own.
SOURCES = {
    "keeps the thoughts behind the last question": (
        "{% set asked = namespace(at=-1) %}{% for m in messages[::-1] %}"
        "{% if asked.at < 0 and m.role == 'user' and not m.content.startswith('<result>') %}"
        "{% set asked.at = messages|length - loop.index %}{% endif %}{% endfor %}"
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role != 'assistant' %}"
        "{{ m.content }}{% else %}{% set parts = m.content.partition('</think>') %}"
        "{% set said = parts[2].lstrip('\n') if parts[1] else m.content %}"
        "{% set thought = m.reasoning_content if m.reasoning_content is string else "
        "(parts[0].split('<think>')|last if parts[1] else '') %}"
        "{% if loop.index0 > asked.at and (thought or loop.last) %}"
        "<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}{{ said }}{% endif %}"
        + END
        + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    ),
    "tells the mode in the system turn": (
        "{%- macro system(text, mode) -%}<|im_start|>system\nToday: {{ strftime_now('%Y') }}\n"
        "Mode: {{ {'mode': mode, 'by': 'é'}|tojson(separators=(',', ':'), sort_keys=true) }}\n"
        "{{ text }}" + END + "{%- endmacro -%}"
        "{%- if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif -%}"
        "{%- set mode = '/think' if enable_thinking else '/no_think' -%}"
        "{%- set own = messages[0].content if messages[0].role == 'system' else 'Help.' -%}"
        "{{ system(own.replace('/no_think', '').rstrip(), mode) }}"
        "{%- for m in messages -%}{%- if m.role != 'system' -%}"
        "{{ '<|im_start|>' + m.role + '\n' }}"
        "{%- if m.role == 'assistant' -%}{% generation %}"
        "{{ ('' if mode == '/think' else '<think>\n\n</think>\n') + m.content.lstrip('\n') }}"
        "{% endgeneration %}{%- else -%}{{ m.content }}{%- endif -%}{{ '" + END.strip() + "\n' }}"
        "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}"
        "{{ '<|im_start|>assistant\n' + ('' if enable_thinking else '<think>\n\n</think>\n') }}"
        "{%- endif -%}"
    ),
    "opens the thoughts, and looks at shapes": (
        "{% for m in messages %}{% if m is mapping and m.items()|list|length > 1 %}"
        "{% if m['role'] not in ['system', 'user', 'assistant'] %}"
        "{{ raise_exception('unknown role ' + m.role) }}{% endif %}"
        "<|im_start|>{{ m.get('role') }}\n"
        "{% if m.role == 'assistant' and '</think>' in m.content %}"
        "{{ m.content.split('</think>')|last|trim }}{% else %}{{ m.content }}{% endif %}"
        + END
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n"
        "{% endif %}"
    ),
}
THOUGHT = "<think>\nA sum.\n</think>\n\n2 + 2 is 4."
CONVERSATIONS = [
    [("user", "2+2?")],
    [("system", "Be brief. /no_think"), ("user", "2+2?"), ("assistant", THOUGHT), ("user", "+1?")],
    [("user", "2+2?"), ("assistant", THOUGHT), ("user", "<result>3</result>")],
    [("user", "2+2?"), ("assistant", "4."), ("user", "数？"), ("assistant", THOUGHT)],
]


def transformers(source: str, turns: list[tuple[str, str]], **variables: Any) -> str:
    """What transformers' `apply_chat_template` writes."""
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": role, "content": text} for role, text in turns]
    generate = turns[-1][0] == "user"
    told = variables if variables.get("enable_thinking") is not None else {}
    written, _ = render_jinja_template(
        [messages], chat_template=source, add_generation_prompt=generate, **told
    )
    return str(written[0])


@pytest.mark.parametrize("feature", SOURCES, ids=["keeps", "mode", "opens"])
def test_prompts_are_those_of_transformers(
    feature: str, jinja: Jinja, llama_cpp_ids: LlamaIds
) -> None:
    template = jinja(SOURCES[feature], override=None)
    assert template.name == "jinja"
    for turns in CONVERSATIONS:
        messages = tuple(Message(role, text) for role, text in turns)  # type: ignore[arg-type]
        for thinking in (None, True, False):
            prompt = transformers(SOURCES[feature], turns, enable_thinking=thinking)
            conversation = Conversation(messages, thinking=thinking)
            ids = template.render(conversation, generate=turns[-1][0] == "user").ids
            assert ids == llama_cpp_ids("starter", prompt), (turns, thinking)


ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\nHOW{{ m.content }}<|im_end|>\n{% endfor %}"
)
PLAIN = TURNS.replace("HOW", "") + ASK
FIELD = (
    TURNS.replace(
        "HOW", "{% if m.reasoning %}[THINK]{{ m.reasoning }}[/THINK]{% endif %}"
    ) + ASK
)  # fmt: skip
BUDGET = PLAIN.replace(
    "assistant\n{%",
    "assistant\n{% if thinking_budget == 0 %}<seed:think></seed:think>{% endif %}{%",
)
WORDS = PLAIN.replace(
    ASK,
    "{% if thinking %}Write 'Here is my thought process:' and 'Here is my response:'.{% endif %}"
    + ASK,
)


@pytest.mark.parametrize(
    ("source", "marks", "switches"),
    [
        (PLAIN, None, False),
        (SOURCES["keeps the thoughts behind the last question"], USUAL, True),
        (SOURCES["opens the thoughts, and looks at shapes"], USUAL, False),
        (FIELD, ThoughtMarks("[THINK]", "[/THINK]"), False),
        (BUDGET, ThoughtMarks("<seed:think>", "</seed:think>"), True),
        (WORDS, ThoughtMarks("Here is my thought process:", "Here is my response:"), True),
    ],
    ids=["plain", "usual", "opened", "field", "budget", "words"],
)
def test_how_thoughts_are_marked_is_told_by_the_template(
    source: str, marks: ThoughtMarks | None, switches: bool, jinja: Jinja
) -> None:
    template = jinja(source, override=None)
    assert (template.thoughts, template.switches_thinking) == (marks, switches)


def test_a_prompt_that_opens_the_thoughts_says_with_what(jinja: Jinja) -> None:
    asked = Conversation((Message("user", "<think>"),))
    opening = jinja(SOURCES["opens the thoughts, and looks at shapes"])
    assert opening.opened(opening.render(asked)) == "<think>\n"
    keeping = jinja(SOURCES["keeps the thoughts behind the last question"])
    assert keeping.opened(keeping.render(asked)) == ""
    off = Conversation(asked.messages, thinking=False)
    assert keeping.opened(keeping.render(off)) == ""  # and closed again


def test_thoughts_that_are_gone_on_with_keep_their_marks(jinja: Jinja) -> None:
    template = jinja(SOURCES["opens the thoughts, and looks at shapes"])
    asked = Message("user", "2+2?")
    request = template.render(Conversation((asked,))).ids
    for text in ("<think>\nA su", THOUGHT):
        begun = Conversation((asked, Message("assistant", text)))
        ids = template.render(begun, continues=True).ids
        assert ids[: len(request)] == request
        prompt = template.vocabulary.detokenize(ids).decode()
        assert prompt.endswith("assistant\n" + text)
        assert prompt.count("<think>") == 1
