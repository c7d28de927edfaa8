"""The fallback: a model's own template, run as the untrusted code that it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.errors import TemplateError
from openchat_local.models.template import Template
from openchat_local.models.template.vocabulary import ContentDecoder

MakeTemplate = Callable[..., Template]

LOOP = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"


def conversation(*turns: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[i % 2], text) for i, text in enumerate(turns)))


def pieces(template: Template, *turns: str, generate: bool = True) -> list[tuple[str, int, str]]:
    rendered = template.render(conversation(*turns), generate=generate)
    detokenize = template.vocabulary.detokenize
    return [
        (span.kind, span.message, detokenize(rendered.ids[span.start : span.end]).decode())
        for span in rendered.spans
    ]


@pytest.mark.parametrize("family", ["openchat-3.5", "chatml", "llama-3", "gemma", "zephyr"])
def test_the_fallback_writes_the_ids_that_the_family_writes(
    family: str, template_of: Callable[..., Template]
) -> None:
    asked = conversation("Hello there", "Hi.", "Tell me\n\nmore")
    by_family, by_jinja = template_of(family), template_of(family, override="jinja")
    assert by_family.name == family
    assert by_jinja.name == "jinja"
    assert by_jinja.render(asked).ids == by_family.render(asked).ids
    assert by_jinja.stop_ids == by_family.stop_ids
    reply = next(
        span
        for span in by_jinja.render(asked).spans
        if span.kind == "content" and span.message == 1
    )
    decoder = by_jinja.content_decoder()
    ids = by_jinja.render(asked).ids[reply.start : reply.end]
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == "Hi."


def test_a_template_of_no_family_names_its_pieces(template_of: Callable[..., Template]) -> None:
    template = template_of("mistral")
    assert template.name == "jinja"
    assert pieces(template, "one", "two", "three") == [
        ("bos", 0, "<s>"),
        ("header", 0, " [INST]"),
        ("content", 0, " one"),
        ("header", 1, " [/INST]"),
        ("content", 1, " two"),
        ("end_of_turn", 1, "</s>"),
        ("header", 2, " [INST]"),
        ("content", 2, " three"),
        ("header", 3, " [/INST]"),
    ]
    decoder = template.content_decoder()
    assert "".join(map(decoder.feed, template.vocabulary.tokenize_content(" two"))) == "two"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_content_stays_text_in_the_fallback(
    data: st.DataObject, template_of: Callable[..., Template]
) -> None:
    template = template_of("chatml", override="jinja")
    literals = sorted(template.vocabulary.special_literals)
    fragment = st.sampled_from(literals) | st.sampled_from(["{{", "{% raw %}", "a", " ", "\n", "é"])
    turns = data.draw(st.lists(st.lists(fragment, max_size=5).map("".join), min_size=1, max_size=4))
    rendered = template.render(conversation(*turns))
    for index, text in enumerate(turns):
        ids = [
            id
            for span in rendered.spans
            if (span.kind, span.message) == ("content", index)
            for id in rendered.ids[span.start : span.end]
        ]
        assert not any(map(template.vocabulary.is_special, ids))
        # A line break of the header and one of a prompt may be one token; of a reply never.
        written = template.vocabulary.detokenize(ids).decode()
        assert written == text or (index % 2 == 0 and text[0].isspace() and written == "\n" + text)


def test_what_the_template_trims_is_trimmed(jinja: MakeTemplate) -> None:
    trimming = jinja(LOOP.replace("m.content", "m.content | trim"))
    keeping = jinja(LOOP)
    assert ("content", 0, "a b") in pieces(trimming, "\n a b ", "c", "d")
    assert ("content", 0, "\n a b ") in pieces(keeping, "\n a b ", "c", "d")


def test_a_template_that_leaves_out_a_turn_is_refused(jinja: MakeTemplate) -> None:
    last_only = "{{ messages[-1].content }}<|im_end|>"
    with pytest.raises(TemplateError, match="leaves out message 1, a user turn; choose one with"):
        jinja(last_only)
    template = jinja("{% for m in messages[:3] %}" + LOOP[LOOP.index("[") :])
    with pytest.raises(TemplateError, match="message 4, an assistant turn"):
        template.render(conversation("a", "b", "c", "d"))


def test_a_template_may_refuse_and_says_why(template_of: Callable[..., Template]) -> None:
    with pytest.raises(TemplateError, match=r"roles must alternate.*--template: zephyr"):
        template_of("mistral").render(Conversation((Message("user", "a"), Message("user", "b"))))


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append({'role': 'user', 'content': 'x'}) }}",
        "{{ messages[0].update({'content': 'x'}) }}",
        "{{ messages.clear() }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{% include 'x' %}",
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 9 ** 999999999 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 999999 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_a_template_cannot_get_out_change_its_input_or_hang(
    attack: str, jinja: MakeTemplate
) -> None:
    with pytest.raises(
        TemplateError, match=r"own chat template cannot be used: .*--template"
    ) as error:
        jinja(attack + LOOP)
    assert "\n" not in str(error.value)


DOUBLING = "{%% set ns = namespace(a=%s) %%}{%% for i in range(40) %%}%s{%% endfor %%}"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ 'a'.center(900000000) }}",
        "{{ '1'.zfill(900000000) }}",
        "{{ '\t'.expandtabs(900000000) }}",
        "{{ 'a'.encode().ljust(900000000) }}",
        "{{ 'aaaa'.translate({97: 'b' * 2000000}) }}",
        "{{ '{:>900000000}'.format('a') }}",
        "{{ '{:{}}'.format('a', 900000000) }}",
        "{{ '%900000000d' % 1 }}",
        "{{ '%00000000009000000d' % 1 }}",
        "{{ '%*d' % (900000000, 1) }}",
        "{{ '%900000000d' | format(1) }}",
        "{{ 'a' | center(900000000) }}",
        "{{ 'a\nb' | indent(900000000) }}",
        "{{ [1] | tojson(indent=900000000) }}",
        "{{ ('a' * 2000000) | replace('a', 'a' * 2000000) }}",
        "{{ ('a' * 2000000).replace('a', 'a' * 2000000) }}",
        "{{ 'x'.join(['a' * 2000000] * 2000) }}",
        "{{ (['a' * 2000000] * 2000) | join }}",
        "{{ [[['a' * 3000] * 1000] * 1000] }}",
        "{{ [['a' * 3000] * 1000] * 1000 | tojson }}",
        "{{ ([[1] * 9] * 9) | sum(start=[]) }}",
        DOUBLING % ("'a'", "{% set ns.a = ns.a ~ ns.a %}"),
        DOUBLING % ("'a'", "{% set ns.a = ns.a + ns.a %}"),
        "{% set x = 'a' * 3000000 %}{% set b %}{{ x }}{{ x }}{% endset %}{{ b | length }}",
        "{% macro f() %}{{ 'a' * 3000000 }}{% endmacro %}{{ (f() ~ f()) | length }}",
        "{# " + "x" * 600_000 + " #}",
    ],
)
def test_no_step_of_a_template_fills_the_memory(attack: str, jinja: MakeTemplate) -> None:
    said = "too large a value|computes the width|large number|no numbers|not iterable|characters"
    with pytest.raises(TemplateError, match=f"cannot be used: .*({said})"):
        jinja(attack + LOOP)


def test_what_honest_templates_compute_is_computed(jinja: MakeTemplate) -> None:
    template = jinja(
        "{{ 'ab' ~ 1 ~ none }}|{{ [1, 2] | join('-') }}|{{ '%s-%03d' % ('a', 3) }}|"
        "{{ '{}'.format(2) }}|{{ 'a b'.replace(' ', '_') }}|{{ [1, 2] | sum }}|"
        "{{ messages | map(attribute='role') | join('+') }}|{{ 'a\nb' | indent(2) }}|"
        "{{ 1 + 2 }}|{{ 'x' + 'y' }}|{{ ([1] + [2]) | tojson }}|{{ 'x'.join(['a', 'b']) }}|"
        "{{ 'x' * 3 }}|{{ 7 % 4 }}|" + LOOP
    )
    written = pieces(template, "q", generate=False)[0][2]
    assert written.startswith("ab1None|1-2|a-003|2|a_b|3|user|a\n  b|3|xy|[1, 2]|axb|xxx|3|[user]")


def test_a_runaway_template_is_stopped_in_a_thread_too(jinja: MakeTemplate) -> None:
    said: list[str] = []

    def work() -> None:
        try:
            jinja("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
        except TemplateError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=60)
    assert said
    assert "does not come to an end" in said[0]


def test_what_transformers_offers_to_templates_is_there(jinja: MakeTemplate) -> None:
    template = jinja(
        "{{ strftime_now('%Y') | length }}|{{ {'a': 'é'} | tojson }}|{{ tools is none }}"
        "{% for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}"
        "{% generation %}[{{ m.content }}]{% endgeneration %}<|im_end|>{% endfor %}"
    )
    assert pieces(template, "x", generate=False)[0] == ("header", 0, '4|{"a": "é"}|True[')


def test_an_empty_content_is_shown_as_empty(jinja: MakeTemplate) -> None:
    template = jinja("{% for m in messages %}<{{ m.content or 'nothing' }}><|im_end|>{% endfor %}")
    text = "".join(text for _, _, text in pieces(template, "", generate=False))
    assert text == "<nothing><|im_end|>"


def test_the_published_templates_run_in_the_sandbox(
    published: Mapping[str, str], template_of: Callable[..., Template]
) -> None:
    for family in published:
        template = template_of(family, override="jinja")
        decoder = ContentDecoder(template.vocabulary)
        ids = template.render(conversation("Hello")).ids
        assert "Hello" in "".join(map(decoder.feed, ids)) + decoder.finish()


NO_SYSTEM = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"
)
SILENT = NO_SYSTEM.replace("{{ raise_exception('System role not supported') }}", "").replace(
    "{% endif %}[{{ m.role }}]{{ m.content }}<|im_end|>",
    "{% else %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endif %}",
)


@pytest.mark.parametrize("source", [NO_SYSTEM, SILENT], ids=["refuses", "leaves out"])
def test_a_system_turn_that_the_template_does_not_take_opens_the_first_user_turn(
    jinja: MakeTemplate, source: str
) -> None:
    template = jinja(source)
    turns = (Message("system", "Be brief."), *conversation("Hi", "Hello.", "More").messages)
    rendered = template.render(Conversation(turns), generate=False)
    text = template.vocabulary.detokenize(rendered.ids).decode()
    assert text == (
        "[user]Be brief.\n\nHi<|im_end|>[assistant]Hello.<|im_end|>[user]More<|im_end|>"
    )
    assert [span.message for span in rendered.spans if span.kind == "content"] == [1, 2, 3]


def test_a_system_turn_that_the_template_takes_stays_one(jinja: MakeTemplate) -> None:
    template = jinja(LOOP)
    turns = (Message("system", "Be brief."), Message("user", "Hi"))
    ids = template.render(Conversation(turns), generate=False).ids
    assert template.vocabulary.detokenize(ids).startswith(b"[system]Be brief.<|im_end|>[user]Hi")


def test_a_reply_that_is_gone_on_from_stays_open_in_the_fallback(jinja: MakeTemplate) -> None:
    source = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}<|im_end|>{% endfor %}"
    template = jinja(source)
    rendered = template.render(conversation("a", "one two, "), continues=True)
    text = template.vocabulary.detokenize(rendered.ids).decode()
    assert text == "[user]a<|im_end|>[assistant]one two, "
