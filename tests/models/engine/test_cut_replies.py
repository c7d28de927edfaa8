"""A reply that `max_tokens` cuts in the middle of a character ends before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.template.vocabulary import Vocabulary
from support.engines import asking, run, said

EYES = "ꙮꙮꙮ"  # more than one token each


def test_a_character_that_is_cut_is_neither_shown_nor_said_to_the_model(
    engine: LocalEngine, vocabulary_of: Callable[[str], Vocabulary]
) -> None:
    texts = []
    for tokens in range(1, 8):
        asked = asking("An eye.", max_tokens=tokens, json_schema={"const": EYES})
        text, finished = run(engine, asked)
        assert finished.reason == "length"
        assert len(finished.token_ids) == tokens
        following = engine.render(asking("An eye.", said(text, finished), "More.").conversation)
        prompt = vocabulary_of("starter").detokenize(following.ids).decode()
        assert f"assistant\n{text}<|im_end|>" in prompt
        texts.append(text)
    assert all(f'"{EYES}"'.startswith(text) for text in texts), texts
    assert len({*texts}) < len(texts), "no reply was cut in a character"


def test_a_cut_reply_goes_on_as_if_it_had_never_been_cut(engine: LocalEngine) -> None:
    whole, at_once = run(engine, asking("Tell me about the sea.", max_tokens=30))
    begun, cut = run(engine, asking("Tell me about the sea.", max_tokens=11))
    assert whole.startswith(begun)
    request = replace(
        asking("Tell me about the sea.", said(begun, cut), max_tokens=19), continues=True
    )
    rest, finished = run(engine, request)
    assert begun + rest == whole
    assert finished.token_ids == at_once.token_ids
    assert finished.usage.generated_tokens == 19
    assert finished.usage.evaluated_tokens <= 2, "what the engine still held was not used"
    # The next turn finds it as it was sampled.
    following = asking("Tell me about the sea.", said(whole, finished), "More.", max_tokens=2)
    assert run(engine, following)[1].usage.reused_tokens > cut.usage.prompt_tokens + 28


def test_a_reply_of_which_only_the_text_is_left_goes_on(engine: LocalEngine) -> None:
    request = asking("Name the colours.", "Red, orange,", max_tokens=8)
    rest, finished = run(engine, replace(request, continues=True))
    assert rest.startswith(" ")
    assert len(finished.token_ids) > finished.usage.generated_tokens
