"""Learning is begun: under which name, from which rows, and what is left where it is not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.learning.planning import FOLDER, Forecast, Planning, sweep
from openchat_local.app.learning.recipe import data_options
from openchat_local.app.learning.rows_file import ROWS_IN_RUN, row_of
from openchat_local.app.learning.rules import DEFAULT_RULES
from openchat_local.app.learning.selecting import DELETED, PRIVATE, Selection, gather
from openchat_local.app.learning.starting import (
    LearningError,
    LearningRequest,
    Tried,
    begin_learning,
    names_taken,
    proposed_name,
    refuse_name,
    run_settings,
)
from openchat_local.finetune.data.epoch import Layout
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.run.background import BackgroundError
from openchat_local.finetune.run.plan import Plan, plan_from_json
from openchat_local.models.errors import AdapterError, OpenChatError
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass
from openchat_local.models.system.file_lock import try_lock
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.rated_chats import enough, talk


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in OpenChat's shape, narrow, with its real vocabulary."""
    path = tmp_path_factory.mktemp("learning") / "tiny.gguf"
    return write_model(
        path, openchat_vocabulary(), context=512, embedding=64, feed_forward=128, kv_heads=2
    )


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    yield store
    store.close()


def request(base: Path, **fields: object) -> LearningRequest:
    return LearningRequest("mine", base, Selection(), DEFAULT_RULES, **fields)  # type: ignore[arg-type]


def test_a_name_is_proposed_that_nothing_has(home: Path) -> None:
    assert proposed_name(()) == "mine"
    assert proposed_name({"mine", "mine-2"}) == "mine-3"
    assert proposed_name({"poet-2"}, "poet") == "poet-3"
    assert proposed_name({"poet-9"}, "poet-9") == "poet-10"
    assert proposed_name((), "2026-07") == "2026-8"
    (home / "runs" / "Mine").mkdir(parents=True)
    assert names_taken(home) == {"mine"}
    with pytest.raises(LearningError, match="MINE-2, for example"):
        refuse_name("MINE", home)
    for name in ("none", "a/b", "", "é", "x" * 65):
        with pytest.raises(AdapterError):
            refuse_name(name, home)


def test_the_rows_of_a_run_are_those_of_the_chats_as_they_are_when_it_begins(
    store: ChatStore, home: Path, base: Path, tmp_path: Path
) -> None:
    chats = enough(store)
    gone = talk(store, "Deleted meanwhile", ("no", 1))
    hidden = talk(store, "Private meanwhile", ("secret", 1))
    extra = tmp_path / "more.jsonl"
    said = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    extra.write_text(json.dumps(said) + "\n", encoding="utf-8")
    asked = request(base, steps=1, mix=(extra,)).of_chats(
        [chat.id for chat in (*chats, gone, hidden)]
    )
    talk(store, "Written meanwhile", ("not asked for", 1))
    store.hide_chat(gone.id)
    store.set_private(hidden.id, True)
    store.rate(store.branch(chats[1].id)[-1].id, None)

    begun = begin_learning(store, asked, home)
    try:
        assert begun.gone == {DELETED: 1, PRIVATE: 1}
        now = gather(store, Selection(only=frozenset(chat.id for chat in chats)), DEFAULT_RULES)
        assert begun.lessons == now.lessons
        data = begun.run.path / ROWS_IN_RUN
        *rows, last = map(json.loads, data.read_text("utf-8").splitlines())
        assert rows == [json.loads(json.dumps(row_of(lesson))) for lesson in now.lessons]
        assert last == said | {"class": "expert", "reward": 1.0}
        assert not {"secret", "no", "not asked for", "lead 3"} & set(data.read_text().split('"'))
        if os.name != "nt":
            assert data.stat().st_mode & 0o077 == 0
        with pytest.raises(BackgroundError, match="mine is being trained"):
            begin_learning(store, request(base), home)
    finally:
        begun.run.stop()
    assert begun.run.path == home / "runs" / "mine"


def test_a_plan_is_kept_for_the_very_rows_that_it_was_tried_on(
    store: ChatStore, base: Path, tmp_path: Path
) -> None:
    enough(store)
    found = gather(store, Selection(), DEFAULT_RULES).lessons
    plan = Plan(Layout(1024, 512, 512, packing=False), 3, 3.0, 1, False, 1, 2, step_seconds=0.5)
    tried = Tried(found, plan)
    kept = tried.fields(request(base), found)
    assert plan_from_json(json.loads(json.dumps(kept["plan"]))) == plan
    assert tried.fields(request(base), found[1:]) == {}
    assert tried.fields(request(base, mix=(tmp_path / "x.jsonl",)), found) == {}
    forecast = Forecast(plan, rows=19, held_out=1)
    assert forecast.in_words().startswith("About 2 s and 0.0 GiB of memory")
    assert forecast.in_words().endswith(
        "19 rows 3 times over, in 3 steps, 1 kept back to measure on."
    )


def test_nothing_is_left_of_what_could_not_be_begun(
    store: ChatStore, home: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(LearningError, match="Nothing is left"):
        begin_learning(store, request(base), home)
    enough(store)
    extra = tmp_path / "gone.jsonl"
    with pytest.raises(OpenChatError, match=r"gone\.jsonl"):
        begin_learning(store, request(base, mix=(extra,)), home)
    with pytest.raises(AdapterError, match="no adapter named 'other'"):
        begin_learning(store, request(base, start_from="other"), home)
    assert not list((home / "runs").glob("*"))


def test_a_dry_run_that_was_killed_leaves_no_words_of_chats(
    store: ChatStore, home: Path, base: Path
) -> None:
    dead, living = (home / FOLDER / name / "run" for name in ("0", "1"))
    for folder in (dead, living):
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    held = try_lock(living.parent / "lock")
    assert held is not None
    try:
        sweep(home)
        assert not dead.exists()
        assert living.exists()
    finally:
        os.close(held)
    planning = Planning(request(base), gather(store, Selection(), DEFAULT_RULES).lessons, home)
    planning.end()
    with pytest.raises(OpenChatError):
        planning.run()
    assert not dead.exists()
    sweep(home)
    assert not living.exists()


def test_few_rows_are_learned_at_a_rate_that_suits_the_width_and_with_the_models_own_headers(
    base: Path, home: Path
) -> None:
    settings = run_settings(request(base), home / "rows.jsonl", home)
    assert settings.optimizer.learning_rate == pytest.approx(5e-4 * (2000 / 64) ** 0.781)
    assert settings.data_options.own_headers
    blank = AdapterCard((TrainedClass("expert", "", 1.0),))
    for card, own in ((blank, True), (None, False)):  # None: trained under a condition
        parent = write_random_adapter(home / "parent.gguf", base, card=card)
        wanted = DataOptions(held_out=0.1, own_headers=own, thinking=True)
        assert data_options(0.1, parent) == wanted
