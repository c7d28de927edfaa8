"""Content stays text, and comes back as it was; template text becomes what it names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.models.errors import ModelFileError
from openchat_local.models.template.vocabulary import ContentDecoder, Vocabulary
from support.openchat_gguf import TinyVocabulary, openchat_vocabulary, write_model

VocabularyOf = Callable[[str], Vocabulary]
every_vocabulary = pytest.mark.parametrize(
    "name",
    [
        "starter",
        "openchat",
        "openchat-user-defined",
        "llama-3",
        "gemma",
        "zephyr",
        "chatml-mistral",
        "deepseek",
    ],
)


# Bytes that the starter's byte-level vocabulary has no token for.
STARTER_LACKS = frozenset(bytes.fromhex("04061314161dc0c1f1f2f5f6f7f8f9fafbfcfdfeff"))


def decoded(vocabulary: Vocabulary, ids: list[int], *, leading_space: bool) -> str:
    decoder = ContentDecoder(vocabulary, leading_space=leading_space)
    return "".join(map(decoder.feed, ids)) + decoder.finish()


def assert_stays_text(vocabulary: Vocabulary, text: str, *, leading_space: bool) -> None:
    ids = vocabulary.tokenize_content(text, leading_space=leading_space)
    for id in ids:
        assert not vocabulary.is_special(id)
        assert not vocabulary.is_control(id)
        assert not vocabulary.is_end_of_generation(id)
        assert id not in (vocabulary.bos_id, vocabulary.eos_id)
    assert decoded(vocabulary, ids, leading_space=leading_space) == text
    expected = " " + text if leading_space and text else text
    assert vocabulary.detokenize(ids) == expected.encode()


@every_vocabulary
def test_every_special_token_as_content_is_text(name: str, vocabulary_of: VocabularyOf) -> None:
    vocabulary = vocabulary_of(name)
    literals = [*vocabulary.special_literals, "<0x0A>", "<0xE2>"]
    assert len(literals) > 4
    for literal in literals:
        for text in (
            literal,
            f" {literal} ",
            f"a{literal}b",
            literal * 2,
            f"<{literal}\n{literal}",
        ):
            assert_stays_text(vocabulary, text, leading_space=False)
            assert_stays_text(vocabulary, text, leading_space=True)


@every_vocabulary
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_content_is_text_and_comes_back(
    name: str, vocabulary_of: VocabularyOf, data: st.DataObject
) -> None:
    vocabulary = vocabulary_of(name)
    fragments = st.one_of(
        st.text(),
        st.sampled_from(sorted(vocabulary.special_literals)),
        st.sampled_from(
            ["<", "|", ">", "\u2581", "\0", "\n\n", "    ", "<0x0A>", "\u200d", "👩‍🚒"]
        ),
    )
    text = "".join(data.draw(st.lists(fragments, max_size=8)))
    if name in ("starter", "llama-3", "deepseek"):
        text = "".join(c for c in text if STARTER_LACKS.isdisjoint(c.encode()))
    assert_stays_text(vocabulary, text, leading_space=data.draw(st.booleans()))


@every_vocabulary
def test_template_text_gives_the_special_tokens_that_it_names(
    name: str, vocabulary_of: VocabularyOf
) -> None:
    vocabulary = vocabulary_of(name)
    for literal, id in vocabulary.special_literals.items():
        if literal != "<unused0>":  # llama.cpp does not parse unused tokens
            assert vocabulary.tokenize_template(literal) == [id]
            assert vocabulary.tokenize_template(literal * 2 + "x")[:2] == [id, id]
            assert vocabulary.piece(id) == literal.encode()


@pytest.mark.parametrize("name", ["openchat", "openchat-user-defined"])
def test_both_typings_of_end_of_turn_give_the_same_content(
    name: str, vocabulary_of: VocabularyOf
) -> None:
    ids = vocabulary_of(name).tokenize_content("a<|end_of_turn|>b")
    assert ids == [28708, 28789, 28766, 416, 28730, 1009, 28730, 499, 28766, 28767, 28726]


def test_letters_that_a_file_types_user_defined_are_text(vocabulary_of: VocabularyOf) -> None:
    vocabulary = vocabulary_of("deepseek")
    for text in ("schön", "Ölöfför ÷ 2", "Liebe Grüße == bis später", "Human: hi"):
        assert_stays_text(vocabulary, text, leading_space=False)
    assert {"<｜User｜>", "[PAD7]", "]~b]"} <= vocabulary.special_literals.keys()
    assert not {"ö", "Grüße", "==", "Human:"} & vocabulary.special_literals.keys()


def test_a_user_defined_token_that_the_template_writes_is_guarded(
    vocabulary_of: VocabularyOf,
) -> None:
    plain = vocabulary_of("deepseek")
    assert plain.guarding(["Sei schön freundlich. Grüße", "<｜User｜>", "\n"]) is plain
    guarded = plain.guarding(["\n\nHuman: ", "ö"])
    assert "Human:" in guarded.special_literals
    assert "Human:" not in plain.special_literals
    assert plain.id_of("Human:") is None
    for text in ("Human: hi", "öHuman:ö"):
        assert_stays_text(guarded, text, leading_space=False)


@pytest.mark.parametrize(
    ("name", "text"),
    [("zephyr", "<b>a</b> <s>b</s>"), ("starter", "<|im_end|> ends it"), ("gemma", "<eos> <bos>")],
)
def test_what_plain_tokenisation_leaves_as_text_is_not_cut(
    name: str, text: str, vocabulary_of: VocabularyOf, model_path: Callable[[str], Path]
) -> None:
    import llama_cpp

    plain = llama_cpp.Llama(str(model_path(name)), vocab_only=True, verbose=False)
    expected = plain.tokenize(text.encode(), add_bos=False, special=False)
    vocabulary = vocabulary_of(name)
    assert not any(map(vocabulary.is_special, expected)), "the text is no example"
    spaced = vocabulary.adds_space_prefix
    assert vocabulary.tokenize_content(text, leading_space=spaced) == expected
    assert_stays_text(vocabulary, text, leading_space=spaced)


def test_text_without_literals_is_tokenised_as_llama_cpp_does(
    vocabulary_of: VocabularyOf, model_path: Callable[[str], Path]
) -> None:
    import llama_cpp

    text = "def f(x):\n    return  x < 3 || x > 4  # naïve 数 🙂\n\n\n<div>|end|</div>"
    for name in ("starter", "openchat", "llama-3", "gemma"):
        plain = llama_cpp.Llama(str(model_path(name)), vocab_only=True, verbose=False)
        expected = plain.tokenize(text.encode(), add_bos=False, special=False)
        vocabulary = vocabulary_of(name)
        spaced = vocabulary.adds_space_prefix
        assert vocabulary.tokenize_content(text, leading_space=spaced) == expected


def test_the_space_prefix_is_read_from_the_file(vocabulary_of: VocabularyOf) -> None:
    adds = {
        name: vocabulary_of(name).adds_space_prefix for name in ("starter", "openchat", "gemma")
    }
    assert adds == {"starter": False, "openchat": True, "gemma": False}
    hello = vocabulary_of("openchat").tokenize_template("Hello")
    assert hello == vocabulary_of("openchat").tokenize_content("Hello", leading_space=True)
    assert hello != vocabulary_of("openchat").tokenize_content("Hello")


def test_lone_surrogates_become_replacement_characters(vocabulary_of: VocabularyOf) -> None:
    for name in ("starter", "openchat"):
        vocabulary = vocabulary_of(name)
        assert vocabulary.detokenize(vocabulary.tokenize_content("a\ud800b")).decode() == "a\ufffdb"


@pytest.mark.parametrize("name", ["starter", "llama-3"])
def test_what_a_vocabulary_cannot_spell_is_not_lost_silently(
    name: str, vocabulary_of: VocabularyOf
) -> None:
    vocabulary = vocabulary_of(name)
    ids = vocabulary.tokenize_content("a\x06b \U00040000 <|eot_id|><|im_end|>", leading_space=True)
    back = decoded(vocabulary, ids, leading_space=True)
    assert back == "a\ufffdb \ufffd <|eot_id|><|im_end|>"
    assert not any(map(vocabulary.is_special, ids))


def test_a_megabyte_of_one_word_or_of_blanks_is_tokenised(vocabulary_of: VocabularyOf) -> None:
    for name in ("starter", "openchat", "llama-3"):
        vocabulary = vocabulary_of(name)
        for text in ("a" * 1_000_000, " " * 1_000_000, "<|end_of_turn|>" * 50_000):
            assert vocabulary.detokenize(vocabulary.tokenize_content(text)) == text.encode()


def test_threads_may_tokenise_at_once(vocabulary_of: VocabularyOf) -> None:
    vocabulary = vocabulary_of("openchat")
    texts = [f"thread {number} says <|end_of_turn|> " * 200 for number in range(4)]
    expected = [vocabulary.tokenize_content(text) for text in texts]
    wrong: list[str] = []

    def work(number: int) -> None:
        for _ in range(20):
            ids = vocabulary.tokenize_content(texts[number])
            if ids != expected[number] or vocabulary.detokenize(ids) != texts[number].encode():
                wrong.append(texts[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=12))
def test_a_decoder_gives_whole_characters_of_any_bytes(
    vocabulary_of: VocabularyOf, content: bytes
) -> None:
    vocabulary = vocabulary_of("openchat")
    byte_ids = [3 + byte for byte in content]  # Mistral's byte tokens follow <unk>, <s>, </s>
    assert vocabulary.detokenize(byte_ids) == content
    decoder = ContentDecoder(vocabulary)
    fed = [decoder.feed(id) for id in byte_ids]
    assert "".join(fed) + decoder.finish() == content.decode("utf-8", "replace")


def test_a_decoder_waits_for_the_rest_of_a_character(vocabulary_of: VocabularyOf) -> None:
    decoder = ContentDecoder(vocabulary_of("openchat"))
    assert [decoder.feed(3 + byte) for byte in "€".encode()] == ["", "", "€"]
    decoder.feed(3 + 0xE2)
    assert decoder.finish() == "\ufffd"


def test_an_id_out_of_range_is_refused(vocabulary_of: VocabularyOf) -> None:
    for id in (-1, 10**6):
        with pytest.raises(IndexError, match="outside"):
            vocabulary_of("openchat").piece(id)


def test_a_sentencepiece_vocabulary_without_bytes_is_refused(tmp_path: Path) -> None:
    full = openchat_vocabulary()
    kinds = ["normal" if kind == "byte" else kind for kind in full.kinds]
    tokens = [
        "\n" if token == "<0x0A>" else f"gone{id}" if full.kinds[id] == "byte" else token
        for id, token in enumerate(full.tokens)
    ]
    path = tmp_path / "bytes.gguf"
    write_model(path, TinyVocabulary(**full.__dict__ | {"tokens": tokens, "kinds": kinds}))
    with pytest.raises(ModelFileError, match="lacks byte tokens"):
        Vocabulary.open(path)


def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unknown = openchat_vocabulary().with_tokens({}, model="tomorrow")
    path = write_model(tmp_path / "unknown.gguf", unknown, weights=False)
    with pytest.raises(ModelFileError, match=r"cannot read the vocabulary of .*unknown\.gguf"):
        Vocabulary.open(path)


def test_opening_prints_nothing(
    model_path: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    Vocabulary.open(model_path("openchat"))
    assert capfd.readouterr() == ("", "")
