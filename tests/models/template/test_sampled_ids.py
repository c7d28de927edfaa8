"""A reply is written with the ids that it was sampled as, where they are certain to be right."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openchat_local.models.conversation import Conversation, Message, SampledIds
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import ContentDecoder, Vocabulary

TemplateOf = Callable[[str], Template]
every_vocabulary = pytest.mark.parametrize("name", ["starter", "openchat", "llama-3", "deepseek"])


@pytest.fixture(scope="module")
def template_of(
    model_path: Callable[[str], Path], vocabulary_of: Callable[[str], Vocabulary]
) -> TemplateOf:
    @cache
    def template(name: str) -> Template:
        return choose_template(read_gguf(model_path(name)), vocabulary_of(name), None)

    return template


def spelled_out(template: Template, text: str) -> list[int]:
    """Ids of `text` that no tokenizer would choose: a character at a time."""
    return [id for each in text for id in template.vocabulary.tokenize_content(each)]


def prompt(template: Template, content: str, sampled: SampledIds | None) -> list[int]:
    turns = (Message("user", "Hi"), Message("assistant", content, sampled), Message("user", "Well"))
    return template.render(Conversation(turns)).ids


def holds(ids: list[int], part: list[int]) -> bool:
    return any(ids[at : at + len(part)] == part for at in range(len(ids)))


@every_vocabulary
@pytest.mark.parametrize("noted", [True, False])
def test_ids_that_say_the_text_are_used(name: str, noted: bool, template_of: TemplateOf) -> None:
    template = template_of(name)
    ids = spelled_out(template, "Hello there")
    fingerprint = template.vocabulary.fingerprint if noted else None
    written = prompt(template, "Hello there", SampledIds.of(ids, fingerprint))
    assert holds(written, ids)
    assert not holds(prompt(template, "Hello there", None), ids)


@every_vocabulary
def test_an_edited_text_is_tokenised(name: str, template_of: TemplateOf) -> None:
    template = template_of(name)
    sampled = SampledIds.of(spelled_out(template, "Hello there"), template.vocabulary.fingerprint)
    for edited in ("Hello there!", "Hello ther", "hello there", " Hello  there", "x"):
        assert prompt(template, edited, sampled) == prompt(template, edited, None)


def test_ids_of_another_vocabulary_are_not_used(template_of: TemplateOf) -> None:
    starter, other = template_of("starter"), template_of("openchat")
    text = "Hello there"
    theirs = spelled_out(other, text)
    for sampled in (
        SampledIds.of(theirs, other.vocabulary.fingerprint),
        SampledIds.of(theirs),  # not noted whose they are
        SampledIds.of(spelled_out(starter, text), other.vocabulary.fingerprint),
    ):
        assert prompt(starter, text, sampled) == prompt(starter, text, None)


@every_vocabulary
def test_a_control_token_never_comes_in_with_the_ids(name: str, template_of: TemplateOf) -> None:
    """A file that is imported can say anything of its ids."""
    template = template_of(name)
    for special in {*template.stop_ids, *template.vocabulary.special_literals.values()}:
        text = template.vocabulary.piece(special).decode("utf-8", "replace")
        assert template.sampled_ids(Message("assistant", text, SampledIds.of([special]))) is None


@pytest.mark.parametrize("ids", [[-1], [2**31 - 1], [49152], []])
def test_ids_that_do_not_exist_are_not_used(ids: list[int], template_of: TemplateOf) -> None:
    message = Message("assistant", "Hello", SampledIds.of(ids))
    assert template_of("starter").sampled_ids(message) is None
    assert template_of("starter").sampled_ids(Message("assistant", "", SampledIds(b""))) is None


def test_no_more_ids_than_the_text_has_bytes_are_looked_at(template_of: TemplateOf) -> None:
    template = template_of("openchat")
    ids = spelled_out(template, "𓂀")
    assert len(ids) >= 4
    assert template.sampled_ids(Message("assistant", "𓂀", SampledIds.of(ids)))
    assert template.sampled_ids(Message("assistant", "𓂀", SampledIds.of(ids * 10**6))) is None


def test_bytes_that_are_no_ids_are_not_used(template_of: TemplateOf) -> None:
    template = template_of("starter")
    packed = SampledIds.of(spelled_out(template, "Hello")).packed
    for damaged in (b"", packed[:-1], packed[:-4], packed + b"\0", packed + b"\0\0\0\0"):
        message = Message("assistant", "Hello", SampledIds(damaged))
        used = template.sampled_ids(message)
        assert used is None or [*used] == spelled_out(template, "Hello")


@pytest.mark.parametrize("name", ["starter", "openchat"])
@given(numbers=st.lists(st.integers(0, 31_999), max_size=30))
@example(numbers=[])
def test_whatever_is_used_says_the_text(
    name: str, numbers: list[int], template_of: TemplateOf
) -> None:
    template = template_of(name)
    decoder = template.content_decoder()
    text = "".join(map(decoder.feed, numbers)) + decoder.finish()
    used = template.sampled_ids(Message("assistant", text, SampledIds.of(numbers)))
    special = any(map(template.vocabulary.is_special, numbers)) or template.stop_ids & {*numbers}
    if special or not text:
        assert used is None
    else:  # it was sampled just so
        assert used is not None
        assert [*used] == numbers
        plain = ContentDecoder(template.vocabulary, leading_space=template.name == "openchat-3.5")
        assert "".join(map(plain.feed, used)) + plain.finish() == text


def test_the_fingerprint_tells_vocabularies_apart_and_is_the_same_again(
    model_path: Callable[[str], Path], vocabulary_of: Callable[[str], Vocabulary]
) -> None:
    names = ["starter", "openchat", "llama-3", "gemma", "zephyr", "deepseek", "channels"]
    prints = [vocabulary_of(name).fingerprint for name in names]
    assert len({*prints}) == len(names)
    assert Vocabulary.open(model_path("openchat")).fingerprint == prints[1]
    # A template that guards some of its tokens has the same ones.
    guarded = vocabulary_of("deepseek").guarding(["<|im_end|>", "Human:"])
    assert guarded.fingerprint == prints[names.index("deepseek")]
    assert all(len(each) == 16 for each in prints)


def test_packed_ids_come_back() -> None:
    ids = [0, 1, 255, 256, 32_000, 2**31 - 1]
    sampled = SampledIds.of(ids)
    assert [*sampled.ids] == ids
    assert len(sampled) == len(ids)
    assert sampled.packed[8:12] == b"\xff\0\0\0"  # little-endian, wherever it is written
