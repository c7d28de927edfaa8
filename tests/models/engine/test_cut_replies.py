"""A reply that `max_tokens` cuts in the middle of a character ends before it."""

from __future__ import annotations

from collections.abc import Callable

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.vocabulary import Vocabulary
from support.engines import asking, run

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
        following = engine.render(asking("An eye.", text, "More.").conversation)
        prompt = vocabulary_of("starter").detokenize(following.ids).decode()
        assert f"assistant\n{text}<|im_end|>" in prompt
        texts.append(text)
    assert all(f'"{EYES}"'.startswith(text) for text in texts), texts
    assert len({*texts}) < len(texts), "no reply was cut in a character"
