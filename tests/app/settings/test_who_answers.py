"""Who answers, said the same way by every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.who_wrote import Answerer, who_wrote
from openchat_local.app.cli.main import main
from openchat_local.app.settings.model import load_settings
from openchat_local.app.settings.per_chat import effective_settings
from openchat_local.app.settings.who_answers import answerer, condition_in_words
from openchat_local.app.tui.markdown.sections import end_blocks, message_section
from openchat_local.models.engine.protocol import AdapterInfo, LoadedModel
from support.hostile import HOSTILE, obeyed
from support.turns import turn


def loaded(default_condition: str = "", adapter: AdapterInfo | None = None) -> LoadedModel:
    return LoadedModel(
        name="tiny", path="tiny.gguf", architecture="llama", context=64, context_trained=64,
        template="openchat-3.5", template_note=None, default_condition=default_condition, threads=1,
        gpu_layers=0, file_size=1, state_bytes_per_token=1, load_seconds=0.0, adapter=adapter,
    )  # fmt: skip


MINE = AdapterInfo("mine", "mine.gguf", 1.0, "Expert")
UNSAID = AdapterInfo("mine", "mine.gguf", 1.0, None)


@pytest.mark.parametrize(
    ("condition", "model", "short", "long"),
    [
        (None, loaded("GPT4 Correct"), "tiny · GPT4 Correct", "'GPT4 Correct', the model's own"),
        (None, loaded(), "tiny", "none, the model's own"),
        (None, loaded("Expert", MINE), "tiny + mine · Expert", "'Expert', the adapter's own"),
        (None, loaded("GPT4", UNSAID), "tiny + mine · GPT4", "'GPT4', the model's own"),
        ("Code", loaded("Expert", MINE), "tiny + mine · Code", "'Code'"),
        ("", loaded("Expert", MINE), "tiny + mine", "none"),
        (" ", loaded("Expert", MINE), "tiny + mine", "none"),
        (None, None, "starter + theirs", "the model's own"),
        ("Code", None, "starter + theirs · Code", "'Code'"),
    ],
)
def test_the_condition_in_force_and_whose_it_is(
    condition: str | None, model: LoadedModel | None, short: str, long: str
) -> None:
    now = effective_settings(load_settings(), {"condition": condition, "adapter": "theirs"})
    assert answerer(now, model).in_words() == short
    assert condition_in_words(now.condition, model) == long


@given(HOSTILE, HOSTILE, HOSTILE)
def test_whoever_answers_is_one_line_of_text(model: str, adapter: str, condition: str) -> None:
    reply = turn(1, "assistant", "hi", model=model, adapter=adapter, condition=condition)
    who = who_wrote(reply)
    assert who is not None
    assert not obeyed(who.in_words())


def test_each_version_of_a_reply_says_who_wrote_it() -> None:
    def line(**fields: Any) -> str:
        reply = turn(1, "assistant", "hi", sibling=1, siblings=3, **fields)
        return "".join(text for text, _ in message_section(reply).blocks[-1].rows(80)[0])

    assert line(model="tiny", adapter="mine", condition="Expert") == "‹ 1/3 ›  tiny + mine · Expert"
    assert line(model="tiny", condition="") == "‹ 1/3 ›  tiny"
    assert line(model="tiny", edited=True) == "‹ 1/3 ›  edited"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (None, ""),
        (Answerer("tiny", "mine", "Expert"), ""),
        (Answerer("tiny", "mine", None), ""),
        (Answerer("tiny", "theirs", "Expert"), "tiny + mine · Expert"),
        (Answerer("tiny", None, "Expert"), "tiny + mine · Expert"),
        (Answerer("starter", "mine", "Expert"), "tiny + mine · Expert"),
    ],
)
def test_the_only_version_says_who_wrote_it_where_another_answers_now(
    now: Answerer | None, said: str
) -> None:
    reply = turn(1, "assistant", "hi", model="tiny", adapter="mine", condition="Expert")
    blocks = end_blocks(reply, now)
    assert "".join(text for block in blocks for text, _ in block.rows(80)[0]) == said
    assert not end_blocks(turn(0, "user", "hi"), now)


def test_history_says_it_too(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = ChatStore.open(home)
    chat = store.new_chat(
        title="*Stars*\n*", model="tiny", adapter="mine", condition="Code",
        sampling={"temperature": 0.0, "seed": 7},
    )  # fmt: skip
    prompt = store.add_message(chat.id, None, "user", "Why?")
    reply = store.begin_reply(chat.id, prompt.id, model="tiny", adapter="mine", condition="Expert")
    store.finish_reply(reply.id, "Because.", "stop")
    store.close()
    assert main(["history", "show"]) == 0
    shown = capfd.readouterr().out
    assert shown.startswith("# *Stars* *\n\n*")
    assert "\n\n*Options: tiny + mine · Code, temperature 0.0, seed 7*\n\n## User\n" in shown
    assert "## Assistant (tiny + mine · Expert)\n" in shown
