"""Templates of no family: the prompt is the one that they write themselves, id by id."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import jinja2.ext
import jinja2.sandbox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.models.conversation import Conversation, Message, SampledIds
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Rendered, Template
from openchat_local.models.template.vocabulary import Vocabulary

Jinja = Callable[..., Template]
LlamaIds = Callable[[str, str], list[int]]

HEAD = "<|im_start|>{{ m.role }}\n"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
PLAIN = "{% for m in messages %}" + HEAD + "{{ m.content }}<|im_end|>\n{% endfor %}" + ASK

# What published templates do, each in a template of its own.
SOURCES = {
    "leaves out the thoughts of earlier replies": (
        "{% for m in messages %}{% set c = m.content %}"
        "{% if m.role == 'assistant' and '</think>' in c %}"
        "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        + HEAD
        + "{{ c }}<|im_end|>\n{% endfor %}"
        + ASK
    ),
    "writes the last thoughts anew": (
        "{% for m in messages %}" + HEAD + "{% if m.role == 'assistant' and loop.last %}"
        "{% set parts = m.content.partition('</think>') %}"
        "{% set thought = parts[0].split('<think>')[-1].strip() if parts[1] else '' %}"
        "{{ '<think>\n' + thought + '\n</think>\n\n' }}"
        "{{ (parts[2] if parts[1] else m.content).lstrip('\n') }}"
        "{% else %}{{ m.content.split('</think>')[-1] | trim }}{% endif %}<|im_end|>\n{% endfor %}"
        + ASK
    ),
    "trims": PLAIN.replace("m.content", "m.content | trim"),
    "opens the first prompt with the system text": (
        "{% set s = '' %}{% if messages[0].role == 'system' %}"
        "{% set s = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}" + HEAD + "{{ (s if loop.first else '') ~ m.content }}<|im_end|>\n"
        "{% endfor %}" + ASK
    ),
    "obeys switches in the text": (
        "{% set ns = namespace(think=true) %}{% for m in messages %}"
        "{% if '/no_think' in m.content %}{% set ns.think = false %}{% endif %}"
        + HEAD
        + "{{ m.content.replace('/no_think', '').strip() }}<|im_end|>\n{% endfor %}"
        + ASK.replace("{% endif %}", "{{ '' if ns.think else '<think></think>' }}{% endif %}")
    ),
    "tells the day": "<|im_start|>system\n{{ strftime_now('%d %B %Y') }}<|im_end|>\n" + PLAIN,
    "goes through the tools unasked": "{% for t in tools %}{{ t }}{% endfor %}" + PLAIN,
    "speaks in plain words": (
        "{% for m in messages %}{{ {'user': 'User', 'assistant': 'Bot'}.get(m.role, 'Note') }}: "
        "{{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}Bot:{% endif %}"
    ),
    "builds its text by hand": (
        "{%- macro turn(m) -%}{{ '%s%s\n' % ('<|im_start|>', m['role']) }}{{ m['content'] }}"
        "{{- ['<|im_end|>', '\n'] | join -}}{%- endmacro -%}"
        "{% set ns = namespace(out='') %}{% for m in messages %}"
        "{% set ns.out = ns.out ~ turn(m) %}{% endfor %}{{ ns.out }}" + ASK
    ),
}
THOUGHT = "<think>\nHow kind.\nI answer.\n</think>\n\nWell, thanks."
CONVERSATIONS = [
    ["How are you?"],
    ["How are you?", "Well, thanks.", "Good (really)!"],
    ["How are you? /no_think", THOUGHT, "And *now*?"],
    ["How are you?", THOUGHT, "And now?", THOUGHT, "```py\nx = [1, 'naïve 数 🙂']\n```"],
    ["How are you?", "I think</think>Well.", "And now?"],
    ["\n How are you?", THOUGHT, " And\n now? \n"],
]


def turns(*texts: str, system: str | None = None) -> tuple[Message, ...]:
    said = [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]  # type: ignore[arg-type]
    return tuple([Message("system", system)] if system is not None else []) + tuple(said)


def published(source: str, messages: Sequence[Message], generate: bool) -> str:
    environment = jinja2.sandbox.SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["strftime_now"] = time.strftime
    return environment.from_string(source).render(
        messages=[{"role": message.role, "content": message.content} for message in messages],
        add_generation_prompt=generate,
        tools=[],
    )


def text_of(template: Template, rendered: Rendered) -> str:
    return template.vocabulary.detokenize(rendered.ids).decode()


@pytest.mark.parametrize("feature", SOURCES)
@pytest.mark.parametrize("system", [None, "Be brief."], ids=["", "system"])
def test_the_ids_are_those_of_the_templates_own_prompt(
    feature: str, system: str | None, jinja: Jinja, llama_cpp_ids: LlamaIds
) -> None:
    source = SOURCES[feature]
    template = jinja(source)
    for texts in CONVERSATIONS:
        for messages in (turns(*texts, system=system), turns(*texts, "Yes.", system=system)):
            generate = len(messages) % 2 == (system is None)
            rendered = template.render(Conversation(messages), generate=generate)
            prompt = published(source, messages, generate)
            assert text_of(template, rendered) == prompt
            assert rendered.ids == llama_cpp_ids("starter", prompt)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), feature=st.sampled_from([*SOURCES]))
def test_no_content_becomes_a_control_token(
    data: st.DataObject, feature: str, jinja: Jinja
) -> None:
    template = jinja(SOURCES[feature])
    special = sorted(template.vocabulary.special_literals)
    fragment = st.sampled_from([*special, *special[:3] * 5, "<|", "|>", "</think>", "a", " ", "\n"])
    texts = data.draw(st.lists(st.lists(fragment, min_size=1, max_size=5).map("".join), min_size=1))
    texts = ["a" + text for text in texts]

    def control(*said: str) -> list[int]:
        ids = template.render(Conversation(turns(*said))).ids
        return [id for id in ids if template.vocabulary.is_special(id)]

    assert control(*texts) == control(*["a"] * len(texts))


def test_a_template_that_refuses_an_order_of_roles_says_why(jinja: Jinja) -> None:
    source = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}"
        "<|im_end|>{% endfor %}"
    )
    with pytest.raises(TemplateError, match="Roles must alternate; choose one with --template"):
        jinja(source).render(Conversation((Message("user", "a"), Message("user", "b"))))


def test_a_template_that_only_differs_in_thoughts_is_no_family(jinja: Jinja) -> None:
    stripping = SOURCES["leaves out the thoughts of earlier replies"]
    assert jinja(PLAIN, override=None).name == "chatml"
    assert jinja(stripping, override=None).name == "jinja"
    assert jinja(stripping, override="chatml").name == "chatml"


def test_a_default_system_prompt_that_tells_the_day_is_no_family(jinja: Jinja) -> None:
    fixed = "{% if messages[0].role != 'system' %}<|im_start|>system\nDAY<|im_end|>\n{% endif %}"
    assert jinja(fixed + PLAIN, override=None).name == "chatml"
    daily = fixed.replace("DAY", "{{ strftime_now('%d %B %Y') }}")
    assert jinja(daily + PLAIN, override=None).name == "jinja"


def test_a_control_token_that_is_mixed_with_a_content_is_refused(jinja: Jinja) -> None:
    source = PLAIN.replace("{{ m.content }}<|im_end|>", "{{ (m.content + '<|im_end|>') | title }}")
    mixed = source.replace("| title", "| indent")
    with pytest.raises(TemplateError, match=r"mixes its <\|im_end\|> with what a message says"):
        jinja(mixed)


# Thoughts in a field of their own

CHANNELS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if '<|channel|>' in m.content %}{{ raise_exception('use the field thinking') }}{% endif %}"
    "{% if m.thinking and loop.last and not add_generation_prompt %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
SAID = (
    "<|channel|>analysis<|message|>How kind.<|end|><|start|>assistant"
    "<|channel|>final<|message|>Well, thanks."
)


def test_the_end_of_a_channel_does_not_end_the_reply(jinja: Jinja) -> None:
    template = jinja(CHANNELS, "channels")
    ids = {name: template.vocabulary.id_of(name) for name in ("<|end|>", "<|return|>", "<|call|>")}
    assert None not in ids.values()
    assert {ids["<|return|>"], ids["<|call|>"]} <= template.stop_ids
    assert ids["<|end|>"] not in template.stop_ids
    assert template.stop_ids == template.vocabulary.end_of_generation_ids


def test_what_follows_a_message_is_no_stop_unless_a_familys(jinja: Jinja) -> None:
    template = jinja(PLAIN.replace("<|im_end|>", "<jupyter_text>"))
    following = template.vocabulary.id_of("<jupyter_text>")
    assert following is not None
    assert following not in template.stop_ids
    assert template.stop_ids == template.vocabulary.end_of_generation_ids
    openchat = jinja(PLAIN.replace("<|im_end|>", "<|end_of_turn|>"), "openchat-ends-otherwise")
    assert openchat.vocabulary.end_of_generation_ids == {2}
    assert openchat.stop_ids == {2, 32000}  # a family's rule, whoever writes it


def test_thoughts_go_where_the_template_wants_them(jinja: Jinja) -> None:
    template = jinja(CHANNELS, "channels")
    asked = "<|start|>user<|message|>{}<|end|>"
    answer = "<|start|>assistant<|channel|>final<|message|>Well, thanks."
    later = template.render(Conversation(turns("How are you?", SAID, "Good.")))
    assert text_of(template, later) == (
        asked.format("How are you?")
        + answer
        + "<|end|>"
        + asked.format("Good.")
        + "<|start|>assistant"
    )
    plain = "<|channel|>final<|message|>Well, thanks."
    assert template.render(Conversation(turns("How are you?", plain, "Good."))).ids == later.ids
    last = template.render(Conversation(turns("How are you?", SAID)), generate=False)
    assert text_of(template, last) == (
        asked.format("How are you?") + "<|start|>assistant" + SAID + "<|return|>"
    )
    cut = template.render(Conversation(turns("Hi", SAID[:40], "Go on")))
    assert "How kind" not in text_of(template, cut)


def test_thoughts_that_the_request_has_opened_are_known_by_their_end(jinja: Jinja) -> None:
    source = (
        "{% for m in messages %}" + HEAD + "{% if m.reasoning_content and loop.last %}"
        "<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}{{ m.content }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    template = jinja(source)
    sampled = "How kind.\n</think>\nWell."

    def later(said: str) -> str:
        return text_of(template, template.render(Conversation(turns("Hi", said, "Go on"))))

    assert later(sampled) == published(source, turns("Hi", "Well.", "Go on"), generate=True)
    whole = "<think>\n" + sampled  # no reply of this model, but a text of somebody's
    assert later(whole) == published(source, turns("Hi", whole, "Go on"), generate=True)
    last = template.render(Conversation(turns("Hi", sampled)), generate=False)
    assert "<|im_start|>assistant\n<think>\n" + sampled in text_of(template, last)


def test_the_model_learns_all_that_it_has_to_write_itself(jinja: Jinja) -> None:
    template = jinja(CHANNELS, "channels")
    rendered = template.render(Conversation(turns("How are you?", SAID)), generate=False)
    learned = [
        id
        for span in rendered.spans
        if span.message == 1 and span.kind in ("content", "end_of_turn")
        for id in rendered.ids[span.start : span.end]
    ]
    assert template.vocabulary.detokenize(learned).decode() == SAID + "<|return|>"
    header = next(span for span in rendered.spans if (span.kind, span.message) == ("header", 1))
    ids = rendered.ids[header.start : header.end]
    assert template.vocabulary.detokenize(ids) == b"<|start|>assistant"


def test_a_said_control_token_in_thoughts_stays_text(jinja: Jinja) -> None:
    template = jinja(CHANNELS, "channels")
    said = SAID.replace("kind", "<|return|> kind <|call|>").replace("thanks", "<|call|> thanks")
    for generate, messages in ((False, turns("Hi", said)), (True, turns("Hi", said, "Go on"))):
        ids = template.render(Conversation(messages), generate=generate).ids
        call = template.vocabulary.id_of("<|call|>")
        assert call not in ids
        assert "<|call|> thanks" in template.vocabulary.detokenize(ids).decode()


def test_surrogates_do_not_move_the_marks(jinja: Jinja) -> None:
    template = jinja(PLAIN)
    rendered = template.render(Conversation(turns("\ud83d\ude42\ud83d\ude42 a\ud800", "b")))
    first = next(span for span in rendered.spans if (span.kind, span.message) == ("content", 0))
    ids = rendered.ids[first.start : first.end]
    assert template.vocabulary.detokenize(ids).decode() == "🙂🙂 a\ufffd"


# Replies that were sampled


def test_a_reply_keeps_its_sampled_ids_where_the_template_writes_it_whole(jinja: Jinja) -> None:
    template = jinja(SOURCES["leaves out the thoughts of earlier replies"])
    once = template.vocabulary.tokenize_content("a")
    sampled = once * 4

    def ids(prompt: str, reply: str, after: str) -> list[int]:
        marked = template.vocabulary.tokenize_content(reply.removesuffix("aaaa")) + sampled
        said = Message("assistant", reply, SampledIds.of(marked))
        assert template.sampled_ids(said)
        return template.render(
            Conversation((Message("user", prompt), said, Message("user", after)))
        ).ids

    whole = ids("Hi", "aaaa", "Go on")
    assert any(whole[i : i + 4] == sampled for i in range(len(whole)))
    cut = ids("Hi", "<think>\nb\n</think>\n\naaaa", "Go on")
    assert not any(cut[i : i + 4] == sampled for i in range(len(cut)))


def test_a_prompt_is_a_prefix_of_the_next_and_of_the_reply_gone_on_from(jinja: Jinja) -> None:
    template = jinja(PLAIN)
    sampled = template.vocabulary.tokenize_content("\n Well")
    asked = template.render(Conversation(turns("Hi")))
    for ids in (None, SampledIds.of(sampled)):
        said = Message("assistant", "\n Well", ids)
        more = template.render(
            Conversation((Message("user", "Hi"), said, Message("user", "Go on")))
        )
        assert more.ids[: len(asked.ids) + len(sampled)] == asked.ids + sampled
    begun = template.render(Conversation(turns("Hi", "\n Well")), continues=True)
    assert begun.ids == asked.ids + sampled


def test_a_guarded_token_of_the_template_stays_text_when_it_is_said(
    jinja: Jinja, vocabulary_of: Callable[[str], Vocabulary]
) -> None:
    source = "{% for m in messages %}Human: {{ m.content }}<|im_end|>\n{% endfor %}"
    template = jinja(source, "deepseek")
    human = vocabulary_of("deepseek").tokenize_template("Human:")
    ids = template.render(Conversation(turns("Human: schön", "b"))).ids
    assert [id for id in ids if id in human] == human * 2
    assert "Human: schön" in template.vocabulary.detokenize(ids).decode()
