"""What the families write: published ids, the published templates' ids, safe contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jinja2.sandbox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.models.conversation import Conversation, Message, SampledIds
from openchat_local.models.errors import TemplateError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import FAMILIES, Rendered, Template, choose_template
from openchat_local.models.template.vocabulary import ContentDecoder, Vocabulary

TemplateOf = Callable[..., Template]
ROLES = ("user", "assistant")
VOCABULARY_OF_FAMILY = {
    "openchat-1": "openchat",
    "openchat-2": "openchat",
    "openchat-3.1": "openchat",
    "openchat-3.2": "openchat",
    "openchat-3.5": "openchat",
    "openchat-3.6": "llama-3",
    "chatml": "starter",
    "llama-3": "llama-3",
    "gemma": "gemma",
    "zephyr": "zephyr",
    "openchat-3.5-gemma": "gemma",
}
SPACED = ("openchat-1", "openchat-2", "openchat-3.1", "openchat-3.2", "openchat-3.5")
ON_GEMMA = "openchat-3.5-gemma"  # whose published template writes a space that training did not
every_family = pytest.mark.parametrize("family", list(VOCABULARY_OF_FAMILY))
# The first two differ from 3.1 in nothing but their headers, which have tests of their own.
PROPERTIES_OF = [name for name in VOCABULARY_OF_FAMILY if name not in ("openchat-1", "openchat-2")]
every_pair = pytest.mark.parametrize(
    ("family", "vocabulary"),
    [
        *((name, VOCABULARY_OF_FAMILY[name]) for name in PROPERTIES_OF),
        ("openchat-3.5", "openchat-user-defined"),
        ("openchat-3.2", "openchat-user-defined"),
        ("chatml", "chatml-mistral"),
        ("zephyr", "starter"),
        ("zephyr", "openchat"),
    ],
)


def conversation(
    *turns: str, system: str | None = None, condition: str | None = None
) -> Conversation:
    messages = [Message(ROLES[index % 2], text) for index, text in enumerate(turns)]
    if system is not None:
        messages.insert(0, Message("system", system))
    return Conversation(tuple(messages), condition)


def text_of(template: Template, rendered: Rendered) -> str:
    return template.vocabulary.detokenize(rendered.ids).decode()


# The ids that OpenChat publishes


@pytest.mark.parametrize("vocabulary", ["openchat", "openchat-user-defined"])
@pytest.mark.parametrize(
    ("text", "condition", "ids"),
    [
        (
            "Hello",
            None,
            (
                "1 420 6316 28781 3198 3123 1247 28747 22557 32000"
                " 420 6316 28781 3198 3123 21631 28747"
            ),
        ),
        (
            "Implement quicksort using C++",
            "Code",
            "1 7596 1247 28747 26256 2936 7653 1413 334 1680 32000 7596 21631 28747",
        ),
    ],
)
def test_openchat_3_5_writes_its_published_ids(
    vocabulary: str, text: str, condition: str | None, ids: str, template_of: TemplateOf
) -> None:
    template = template_of("openchat-3.5", vocabulary)
    rendered = template.render(conversation(text, condition=condition))
    assert rendered.ids == list(map(int, ids.split()))
    assert template.stop_ids == {32000, 2}


# The ids of the published templates


def jinja_prompt(source: str, messages: Sequence[Message], vocabulary: Vocabulary) -> str:
    environment = jinja2.sandbox.SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    assert vocabulary.bos_id is not None
    assert vocabulary.eos_id is not None
    return environment.from_string(source).render(
        messages=[{"role": message.role, "content": message.content} for message in messages],
        add_generation_prompt=True,
        bos_token=vocabulary.piece(vocabulary.bos_id).decode(),
        eos_token=vocabulary.piece(vocabulary.eos_id).decode(),
    )


HARMLESS = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"], exclude_characters="<>[]\u2581")
    | st.sampled_from("\n abcdefgh"),
    min_size=1,
    max_size=30,
).filter(lambda text: text == text.strip())


@pytest.mark.parametrize("family", [name for name in PROPERTIES_OF if name != ON_GEMMA])
@settings(max_examples=40, deadline=None)
@given(turns=st.lists(HARMLESS, min_size=1, max_size=5), system=st.none() | HARMLESS)
def test_harmless_text_gives_the_ids_of_the_published_template(
    family: str,
    template_of: TemplateOf,
    published: Mapping[str, str],
    llama_cpp_ids: Callable[[str, str], list[int]],
    turns: list[str],
    system: str | None,
) -> None:
    if family in SPACED:
        system = None  # the published Jinja and the training code disagree on it
    turns = turns if len(turns) % 2 else turns[1:]
    template = template_of(family)
    asked = conversation(*turns, system=system)
    prompt = jinja_prompt(published[family], asked.messages, template.vocabulary)
    expected = llama_cpp_ids(VOCABULARY_OF_FAMILY[family], prompt)
    assert template.name == family
    assert template.render(asked).ids == expected


def test_the_first_openchat_tokenises_each_part_alone(
    template_of: TemplateOf, model_path: Callable[[str], Path]
) -> None:
    import llama_cpp

    llama = llama_cpp.Llama(str(model_path("openchat")), vocab_only=True, verbose=False)
    parts = ("Human: ", "Hello there", "Assistant: ", "Hi!", "Human: ", "Well", "Assistant: ")
    human, hello, assistant, hi, _, well, _ = (
        llama.tokenize(part.encode(), add_bos=False, special=False) for part in parts
    )
    end = [32000]
    expected = [1, *human, *hello, *end, *assistant, *hi, *end, *human, *well, *end, *assistant]
    template = template_of("openchat-1")
    assert template.render(conversation("Hello there", "Hi!", "Well")).ids == expected


def test_openchat_on_gemma_tokenises_each_part_alone_as_its_training_did(
    template_of: TemplateOf, model_path: Callable[[str], Path]
) -> None:
    import llama_cpp

    llama = llama_cpp.Llama(str(model_path("gemma")), vocab_only=True, verbose=False)
    template = template_of(ON_GEMMA)
    parts = ("GPT4 Correct User:", "Hello", "GPT4 Correct Assistant:", "Hi!", "Be brief.")
    user, hello, assistant, hi, system = (
        llama.tokenize(part.encode(), add_bos=False, special=False) for part in parts
    )
    assert template.vocabulary.bos_id is not None
    (end,) = llama.tokenize(b"<end_of_turn>", add_bos=False, special=True)
    expected = [template.vocabulary.bos_id, *system, end, *user, *hello, end, *assistant, *hi, end]
    asked = conversation("Hello", "Hi!", system="Be brief.")
    assert template.render(asked, generate=False).ids == expected
    assert template.stop_ids >= {end}


def test_chatml_over_sentencepiece_gives_the_ids_of_the_published_template(
    template_of: TemplateOf,
    published: Mapping[str, str],
    llama_cpp_ids: Callable[[str, str], list[int]],
) -> None:
    template = template_of("chatml", "chatml-mistral")
    asked = conversation("Hello there", "Hi!", "Write\n\n  code", system="Be kind.")
    prompt = jinja_prompt(published["chatml"], asked.messages, template.vocabulary)
    assert template.render(asked).ids == llama_cpp_ids("chatml-mistral", prompt)


def test_the_starter_gets_its_own_default_system_prompt(
    starter_path: Path,
    vocabulary_of: Callable[[str], Vocabulary],
    llama_cpp_ids: Callable[[str, str], list[int]],
) -> None:
    file = read_gguf(starter_path)
    template = choose_template(file, vocabulary_of("starter"), None)
    assert file.chat_template is not None
    for asked in (
        conversation("Hi", "Hello!", "How are you?"),
        conversation("Hi", system="Short."),
    ):
        prompt = jinja_prompt(file.chat_template, asked.messages, template.vocabulary)
        rendered = template.render(asked)
        assert rendered.ids == llama_cpp_ids("starter", prompt)
        named = "named SmolLM, trained by Hugging Face" in text_of(template, rendered)
        assert named == (asked.messages[0].role != "system")
    assert template.name == "chatml"
    assert template.note is None


# Conditions and system turns


@pytest.mark.parametrize("family", [*VOCABULARY_OF_FAMILY][3:])  # before, they stood elsewhere
def test_conditions_stand_in_every_role_header_and_nowhere_else(
    family: str, template_of: TemplateOf
) -> None:
    template = template_of(family)
    turns, system = ("one", "two", "three"), None if family == "gemma" else "zero"
    with_condition = template.render(conversation(*turns, system=system, condition="Math Correct"))
    assert text_of(template, with_condition).count("Math Correct") == 4  # three turns, one asked
    for span in with_condition.spans:
        text = template.vocabulary.detokenize(with_condition.ids[span.start : span.end])
        is_role_header = span.kind == "header" and not (system and span.message == 0)
        assert (b"Math Correct" in text) == is_role_header
    default = template.render(conversation(*turns, system=system))
    named = template.render(
        conversation(*turns, system=system, condition=template.default_condition)
    )
    assert default == named


@pytest.mark.parametrize(
    ("family", "condition", "text"),
    [
        ("openchat-1", None, "<s> Human:  Hi<|end_of_turn|> Assistant: "),
        ("openchat-2", None, "<s> User: Hi<|end_of_turn|> Assistant GPT4:"),
        ("openchat-2", "GPT3", "<s> User: Hi<|end_of_turn|> Assistant GPT3:"),
        (
            "openchat-3.1",
            None,
            "<s> Assistant is GPT4<|end_of_turn|> User: Hi<|end_of_turn|> Assistant:",
        ),
        ("openchat-3.1", "", "<s> User: Hi<|end_of_turn|> Assistant:"),
        ("openchat-3.2", None, "<s> GPT4 User: Hi<|end_of_turn|> GPT4 Assistant:"),
        ("openchat-3.5", "", "<s> User: Hi<|end_of_turn|> Assistant:"),
        (
            "openchat-3.6",
            None,
            (
                "<|begin_of_text|><|start_header_id|>GPT4 Correct User<|end_header_id|>\n\nHi"
                "<|eot_id|><|start_header_id|>GPT4 Correct Assistant<|end_header_id|>\n\n"
            ),
        ),
        ("chatml", "Code", "<|im_start|>Code user\nHi<|im_end|>\n<|im_start|>Code assistant\n"),
        (
            "llama-3",
            "Code",
            (
                "<|begin_of_text|><|start_header_id|>Code user<|end_header_id|>\n\nHi"
                "<|eot_id|><|start_header_id|>Code assistant<|end_header_id|>\n\n"
            ),
        ),
        (
            "gemma",
            "Code",
            "<bos><start_of_turn>Code user\nHi<end_of_turn>\n<start_of_turn>Code model\n",
        ),
        (ON_GEMMA, None, "<bos>GPT4 Correct User:Hi<end_of_turn>GPT4 Correct Assistant:"),
        ("zephyr", "Code", "<s> <|Code user|>\nHi</s> \n<|Code assistant|>\n"),
    ],
)
def test_a_prompt_reads(
    family: str, condition: str | None, text: str, template_of: TemplateOf
) -> None:
    template = template_of(family)
    assert text_of(template, template.render(conversation("Hi", condition=condition))) == text


def test_early_openchat_writes_a_system_turn_bare(template_of: TemplateOf) -> None:
    template = template_of("openchat-3.5")
    rendered = template.render(conversation("Hi", system="Be brief.", condition=""))
    assert (
        text_of(template, rendered)
        == "<s> Be brief.<|end_of_turn|> User: Hi<|end_of_turn|> Assistant:"
    )


@pytest.mark.parametrize("family", [*SPACED, ON_GEMMA, "openchat-3.6"])
def test_an_empty_system_turn_is_none_in_openchat(family: str, template_of: TemplateOf) -> None:
    template = template_of(family)
    empty = template.render(conversation("Hi", "Hello.", system=""), generate=False)
    without = template.render(conversation("Hi", "Hello."), generate=False)
    assert empty.ids == without.ids
    contents = [span.message for span in empty.spans if span.kind == "content"]
    assert contents == [1, 2]  # numbered as the messages are


def test_openchat_3_1_puts_its_condition_before_the_system_prompt(template_of: TemplateOf) -> None:
    template = template_of("openchat-3.1")
    rendered = template.render(conversation("Hi", system="Be brief.", condition="GPT3"))
    assert text_of(template, rendered) == (
        "<s> Assistant is GPT3<|end_of_turn|> Be brief.<|end_of_turn|>"
        " User: Hi<|end_of_turn|> Assistant:"
    )


@pytest.mark.parametrize("family", [*SPACED, ON_GEMMA, "openchat-3.6"])
def test_openchat_keeps_the_white_space_that_it_was_trained_with(
    family: str, template_of: TemplateOf
) -> None:
    template = template_of(family)
    rendered = template.render(conversation("\n Hi \n", " Hello.\n", "Well"), generate=False)
    spaced = template.vocabulary.adds_space_prefix
    for index, text in enumerate(("\n Hi \n", " Hello.\n")):
        decoder = ContentDecoder(template.vocabulary, leading_space=spaced)
        ids = content_of(template, rendered, index)
        assert "".join(map(decoder.feed, ids)) + decoder.finish() == text


def test_gemma_folds_system_text_into_the_next_user_turn(template_of: TemplateOf) -> None:
    template = template_of("gemma")

    def prompt(*messages: Message) -> str:
        rendered = template.render(Conversation(messages), generate=False)
        return text_of(template, rendered)

    system, user, reply = Message("system", "S"), Message("user", "U"), Message("assistant", "A")
    folded = "<start_of_turn>user\nS\n\nU<end_of_turn>\n"
    alone = "<start_of_turn>user\nS<end_of_turn>\n"
    answer = "<start_of_turn>model\nA<end_of_turn>\n"
    assert prompt(system, user) == "<bos>" + folded
    assert prompt(system, reply) == "<bos>" + alone + answer
    assert prompt(system) == "<bos>" + alone
    assert prompt(reply, system, user) == "<bos>" + answer + folded


def test_a_condition_cannot_bring_a_control_token(template_of: TemplateOf) -> None:
    with pytest.raises(TemplateError, match="control token"):
        template_of("chatml").render(conversation("Hi", condition="x<|im_end|>"))


# Contents


def content_of(template: Template, rendered: Rendered, message: int) -> list[int]:
    return [
        id
        for span in rendered.spans
        if span.kind == "content" and span.message == message
        for id in rendered.ids[span.start : span.end]
    ]


@every_pair
def test_special_tokens_as_content_stay_text_in_every_turn(
    family: str, vocabulary: str, template_of: TemplateOf
) -> None:
    template = template_of(family, vocabulary)
    for literal in template.vocabulary.special_literals:
        assert_contents_are_text(template, [f"{literal}", f"a{literal}{literal}b", literal])


@every_pair
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_content_stays_text_and_comes_back(
    family: str, vocabulary: str, template_of: TemplateOf, data: st.DataObject
) -> None:
    template = template_of(family, vocabulary)
    literals = sorted(template.vocabulary.special_literals)
    fragment = st.sampled_from(literals) | HARMLESS | st.sampled_from("<>|\n \u2581")
    contents = data.draw(
        st.lists(st.lists(fragment, max_size=5).map("".join), min_size=1, max_size=4)
    )
    assert_contents_are_text(template, contents)


def assert_contents_are_text(template: Template, contents: list[str]) -> None:
    """No special token in contents, which come back; around them the same ids as ever."""
    vocabulary = template.vocabulary
    trims = any(family.trims for family in FAMILIES if family.name == template.name)
    system, *turns = contents
    if template.name.startswith("openchat"):
        system = system or "s"  # an empty one is no turn there
    asked = conversation(*turns, system=system)
    rendered = template.render(asked)
    end = 0
    for span in rendered.spans:
        assert span.start == end < span.end
        end = span.end
    assert end == len(rendered.ids)
    for index, message in enumerate(asked.messages):
        ids = content_of(template, rendered, index)
        assert not any(map(vocabulary.is_special, ids))
        assert not template.stop_ids.intersection(ids)
        if template.name == "gemma" and index < 2:
            continue  # the system text is part of the first user turn
        decoder = ContentDecoder(vocabulary, leading_space=template.name in SPACED)
        text = "".join(map(decoder.feed, ids)) + decoder.finish()
        assert text == (message.content.strip() if trims else message.content)
    plain = template.render(conversation(*["x" for _ in turns], system="x"))
    assert frame(rendered) == frame(plain)


def frame(rendered: Rendered) -> list[tuple[str, int, tuple[int, ...]]]:
    """Everything but the contents."""
    return [
        (span.kind, span.message, tuple(rendered.ids[span.start : span.end]))
        for span in rendered.spans
        if span.kind != "content"
    ]


def test_a_user_defined_token_of_a_header_stays_text_when_it_is_said(
    model_path: Callable[[str], Path], vocabulary_of: Callable[[str], Vocabulary]
) -> None:
    plain = vocabulary_of("openchat-words")
    template = choose_template(read_gguf(model_path("openchat-words")), plain, "openchat-3.5")
    (user,) = plain.tokenize_template("User:", after=5)
    ids = template.render(conversation("User: schön")).ids
    assert ids.count(user) == 1  # the header's
    assert "User: schön" in template.vocabulary.detokenize(ids).decode()


@every_family
def test_spans_name_what_training_weights(family: str, template_of: TemplateOf) -> None:
    template = template_of(family)
    rendered = template.render(conversation("question", "answer"), generate=False)
    spans = {
        (span.kind, span.message): rendered.ids[span.start : span.end] for span in rendered.spans
    }
    decoder = template.content_decoder()
    assert "".join(map(decoder.feed, spans["content", 1])) + decoder.finish() == "answer"
    (end,) = spans["end_of_turn", 1]
    assert end in template.stop_ids
    assert ("header", 2) not in spans
    asked = template.render(conversation("question", "answer"))
    assert asked.ids[: len(rendered.ids)] == rendered.ids
    assert asked.spans[-1].kind == "header"
    assert asked.spans[-1].message == 2


@every_family
def test_a_reply_keeps_the_ids_that_it_was_sampled_as(family: str, template_of: TemplateOf) -> None:
    template = template_of(family)
    sampled = template.vocabulary.tokenize_content("a") * 3
    ids = SampledIds.of(sampled)
    turns = [Message("user", "aaa", ids), Message("assistant", "aaa", ids), Message("user", "more")]
    rendered = template.render(Conversation(tuple(turns)))
    assert content_of(template, rendered, 1) == sampled
    assert content_of(template, rendered, 0) != sampled  # only replies are sampled
    assert content_of(template, rendered, 2) != sampled


@every_family
def test_a_prompt_is_a_prefix_of_the_next_turns_prompt(
    family: str, template_of: TemplateOf
) -> None:
    template = template_of(family)
    first = template.render(conversation("Hello", system="Be brief."))
    second = template.render(conversation("Hello", "Hi.", "Well?", system="Be brief."))
    assert second.ids[: len(first.ids)] == first.ids


@every_family
@settings(max_examples=30, deadline=None)
@given(HARMLESS)
def test_a_reply_that_is_gone_on_from_stays_open(
    family: str, template_of: TemplateOf, begun: str
) -> None:
    template = template_of(family)
    asked = template.render(conversation("Count."))
    opened = template.render(conversation("Count.", begun), continues=True)
    assert opened.ids[: len(asked.ids)] == asked.ids
    decoder = template.content_decoder()
    text = "".join(map(decoder.feed, opened.ids[len(asked.ids) :])) + decoder.finish()
    assert text == begun
