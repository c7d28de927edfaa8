"""The Jinja file that other engines get writes the ids that chat and training write."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.template import FAMILIES, Template
from openchat_local.models.template.published import conversations, difference, jinja_of
from support.openchat_gguf import mistral_vocabulary

MakeTemplate = Callable[..., Template]
END = "<|end_of_turn|>"


@cache
def tokenizer() -> Any:
    """OpenChat 3.5's, as `transformers` and vLLM run it: the same vocabulary in the rules of the
    tokenizer.json that its authors published."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    known = mistral_vocabulary()
    ids = {token: id for id, token in enumerate(known.tokens)}
    assert known.scores is not None
    merges = []
    for id, token in enumerate(known.tokens):
        if known.kinds[id] == "normal":
            halves = [(token[:at], token[at:]) for at in range(1, len(token))]
            made = [pair for pair in halves if pair[0] in ids and pair[1] in ids]
            made.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
            merges += [(known.scores[id], pair) for pair in made]
    merges.sort(key=lambda merge: -merge[0])
    model = models.BPE(
        ids, [pair for _, pair in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    fast = Tokenizer(model)
    fast.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    fast.decoder = decoders.ByteFallback()
    fast.add_special_tokens(
        [AddedToken(text, normalized=False, special=True)
         for text in ("<unk>", "<s>", "</s>", END, "<|pad_0|>")]
    )  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<s>", eos_token=END)


def applied(source: str, messages: list[Message], **variables: Any) -> list[int]:
    asked = [{"role": one.role, "content": one.content} for one in messages]
    variables = {"add_generation_prompt": True} | variables
    text = tokenizer().apply_chat_template(asked, chat_template=source, tokenize=False, **variables)
    ids: list[int] = tokenizer()(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("family", [family.name for family in FAMILIES])
def test_each_family_is_the_same_as_a_file(family: str, template_of: MakeTemplate) -> None:
    template = template_of(family)
    for condition in ("", "Math Correct", template.default_condition):
        found = difference(template, condition)
        # Its header ends in a space, which belongs to the word behind it where both are one text.
        assert (found is None) == (family != "openchat-1"), condition


def test_a_file_that_is_not_the_same_is_noticed(
    template_of: MakeTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = template_of("openchat-3.5")
    for wrong in ("{{ bos_token }}", PUBLISHED_WITH_SPACES):
        monkeypatch.setattr(
            "openchat_local.models.template.published.jinja_of", lambda *_, is_=wrong: is_
        )
        assert difference(template, "GPT4 Correct") is not None


PUBLISHED_WITH_SPACES = (
    "{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title()"
    " + ':  ' + message['content'] + '<|end_of_turn|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
)


def test_a_model_of_no_family_keeps_its_own(template_of: MakeTemplate) -> None:
    template = template_of("mistral")
    source = jinja_of(template, "")
    assert source is not None
    assert "[INST]" in source
    assert difference(template, "") is None


def test_transformers_gives_the_published_ids(template_of: MakeTemplate) -> None:
    source = jinja_of(template_of("openchat-3.5"), "GPT4 Correct")
    assert source is not None
    hello = [Message("user", "Hello")]
    assert applied(source, hello) == [
        1, 420, 6316, 28781, 3198, 3123, 1247, 28747, 22557, 32000, 420, 6316, 28781, 3198, 3123,
        21631, 28747,
    ]  # fmt: skip
    code = [Message("user", "Implement quicksort using C++")]
    assert applied(source, code, condition="Code") == [
        1, 7596, 1247, 28747, 26256, 2936, 7653, 1413, 334, 1680, 32000, 7596, 21631, 28747,
    ]  # fmt: skip


# SentencePiece's own sign for a space is, to transformers, one.
anything = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="<\u2581"), max_size=12
)
words = st.sampled_from(
    ["Hello", " ", "  ", "\n", "\n\n", "\t", "你好", "👋🏽", "é", "e\u0301", "1234", ":", "User:",
     "GPT4 Correct", "{{ x }}", "{% raw %}", "\\n", '"', "'", "```py\n", "\u00a0"]
)  # fmt: skip
text = anything | st.lists(words, max_size=6).map("".join)


@settings(max_examples=50, deadline=None)
@given(
    turns=st.lists(text, min_size=1, max_size=5),
    system=st.none() | text,
    condition=st.sampled_from(["GPT4 Correct", "Math Correct", "Code", "", "数学 🦙"]),
    by_request=st.booleans(),
)
def test_transformers_gives_our_ids(
    turns: list[str], system: str | None, condition: str, by_request: bool,
    template_of: MakeTemplate,
) -> None:  # fmt: skip
    template = template_of("openchat-3.5")
    roles = ("user", "assistant")
    messages = [Message(roles[index % 2], turn) for index, turn in enumerate(turns)]  # type: ignore[arg-type]
    if system is not None:
        messages.insert(0, Message("system", system))
    source = jinja_of(template, "GPT4 Correct" if by_request else condition)
    assert source is not None
    variables = {"condition": condition} if by_request else {}
    for generate in (True, False):
        ours = template.render(Conversation(tuple(messages), condition), generate=generate).ids
        theirs = applied(source, messages, add_generation_prompt=generate, **variables)
        assert theirs == ours


def test_roles_that_it_does_not_know_are_refused(template_of: MakeTemplate) -> None:
    from jinja2 import TemplateError

    source = jinja_of(template_of("openchat-3.5"), "")
    assert source is not None
    with pytest.raises(TemplateError, match="no role tool"):
        tokenizer().apply_chat_template(
            [{"role": "tool", "content": "x"}], chat_template=source, tokenize=False
        )
    assert len(conversations()) > 3
