"""What a reply thought goes to its own kind of model and to nobody else."""

from __future__ import annotations

import pytest

from openchat_local.app.replies.prompt import prompted
from openchat_local.models.engine.protocol import LoadedModel
from openchat_local.models.thoughts import USUAL, ThoughtMarks
from support.trees import a_chat
from support.turns import turn

TEXT = "<think>\nA sum.\n</think>\n\nFour."
OTHER = ThoughtMarks("[THINK]", "[/THINK]")


def model(thoughts: ThoughtMarks | None) -> LoadedModel:
    return LoadedModel(
        "m", "", "llama", 512, 512, "jinja", None, "", 1, 0, 0, 0, 0.0, thoughts=thoughts
    )


@pytest.mark.parametrize(
    ("noted", "loaded", "content"),
    [
        (["<think>", "</think>", ""], model(USUAL), TEXT),
        (["<think>", "</think>", ""], model(None), "Four."),
        (["<think>", "</think>", ""], model(OTHER), "Four."),
        ([], model(None), TEXT),
        ([], model(USUAL), TEXT),
        (None, model(None), "Four."),
        (None, None, TEXT),
    ],
    ids=["own", "plain", "other", "text", "text-for-a-thinker", "unknown", "nobody-loaded"],
)
def test_thoughts_are_for_their_own_kind(
    noted: list[str] | None, loaded: LoadedModel | None, content: str
) -> None:
    sampling = None if noted is None else {"thoughts": noted}
    branch = [turn(0, "user", "2+2?"), turn(1, "assistant", TEXT, sampling=sampling)]
    told = prompted(a_chat(), branch, "And?", loaded).conversation.messages
    assert [message.content for message in told] == ["2+2?", content, "And?"]
    going_on = prompted(a_chat(), branch, loaded=loaded).conversation.messages
    assert going_on[-1].content == TEXT
