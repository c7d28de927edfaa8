"""Adapters as versions on the command line: listed, used, taken back, judged, removed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.votes import Side
from openchat_local.app.cli.adapters import adapters
from openchat_local.app.learning.findings import ClassLosses, Compared, Findings, kept_findings
from openchat_local.app.learning.versions import in_use
from openchat_local.finetune.evaluation.statistics import Interval
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import expert_card, write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.versions import install


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(
        tmp_path_factory.mktemp("versions") / "tiny.gguf", openchat_vocabulary(), name="tiny",
        context=512, blocks=1, embedding=64, heads=2, kv_heads=1, feed_forward=64,
        precision=np.float32,
    )  # fmt: skip


@pytest.fixture(scope="module")
def adapter(tiny: Path) -> Path:
    path = tiny.with_name("adapter.gguf")
    return write_random_adapter(path, tiny, size=0.2, card=expert_card(tiny))


@pytest.fixture
def library(home: Path, tiny: Path, adapter: Path) -> AdapterLibrary:
    home.mkdir()
    (home / "config.toml").write_text(f"# mine\nmodel = {str(tiny)!r}\n")
    install(home, "first", adapter, counts={"expert": 30, "middle": 12})
    install(home, "second", adapter, parent="first")
    return AdapterLibrary(home / "adapters")


def run(*arguments: str, input: str = "") -> Result:
    return CliRunner().invoke(adapters, arguments, input=input)


def vote(home: Path, choices: str) -> None:
    sides = (Side("first", "tiny", "first"), Side("base", "tiny"))
    store = ChatStore.open(home)
    chat = store.new_chat(title="t")
    for choice in choices:
        prompt = store.add_message(chat.id, None, "user", "Why?")
        a, b = (store.add_message(chat.id, prompt.id, "assistant", word) for word in "ab")
        word = {"1": "first", "2": "second", "=": "tie"}[choice]
        store.add_vote(chat.id, prompt.id, sides, (a.id, b.id), word)  # type: ignore[arg-type]
    store.close()


def test_used_and_brought_back(library: AdapterLibrary, home: Path) -> None:
    before = (home / "config.toml").read_bytes()
    assert "The adapter first answers in new chats from now on" in run("use", "first").output
    assert "answers in new chats already" in run("use", "first").output
    assert in_use() == "first"
    listed = run("list").output.splitlines()
    assert listed[0].endswith(", in use")
    assert ", from first" in listed[1]
    assert "before, it was the adapter first" in run("rollback").output
    assert (home / "config.toml").read_bytes() == before
    nothing = run("rollback")
    assert nothing.exit_code != 0
    assert "There is no adapter named" in str(run("use", "gone").exception)


def test_one_that_scored_worse_is_asked_about(library: AdapterLibrary) -> None:
    losses = Compared(20, 300, 2.0, 2.2, Interval(0.1, 0.3))
    found = Findings("first", 1.0, "tiny", 0.0, None, (ClassLosses("x", "", losses),), None)
    library.note("first", {"findings": found.as_json()})
    run("use", "first", input="n\n")
    assert in_use() is None
    run("use", "first", input="y\n")
    assert in_use() == "first"
    run("rollback")
    run("use", "first", "-y")
    assert in_use() == "first"
    assert "scored worse" in run("list").output
    assert "it does worse than the model as it is" in run("info", "first").output


def test_judged_and_what_is_shown_of_it(
    library: AdapterLibrary, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openchat_local.app.learning.forgetting.REPLY_TOKENS", 4)
    vote(home, "112=")
    assert "not measured" in run("info", "first").output
    done = run("judge", "first", "--minutes", "0.05", "--json")
    found = kept_findings(library.facts("first"))
    assert found is not None
    assert json.loads(done.stdout) == json.loads(json.dumps(found.as_json()))
    shown = run("info", "first").output
    assert "an answer that begins as it did" in shown
    assert "trained on: 30 expert, 12 middle" in shown
    assert "votes: chosen 2, the other 1, neither 1" in shown
    facts = json.loads(run("info", "second", "--json").stdout)
    assert (facts["parent"], facts["votes"]["wins"], facts["in_use"]) == ("first", 0, False)
    ranked = run("standings").output
    assert ranked.splitlines()[0].startswith("first ")
    assert "2 won, 1 lost, 1 tied" in ranked
    assert "Fewer than 20 votes" in ranked
    first = json.loads(run("standings", "--json").stdout.splitlines()[0])
    assert first["share_interval"][0] < first["share"] < first["share_interval"][1]


def test_scaled_and_removed(library: AdapterLibrary, home: Path) -> None:
    assert "multiplied by 0.5" in run("scale", "first", "0.5").output
    assert ", scale 0.5" in run("list").output
    run("use", "first")
    assert run("remove", "first", "-y").exit_code != 0  # it answers, and nobody was asked
    assert library.names() == ["first", "second"]
    run("remove", "second", "--keep-run", "-y")
    assert (home / "runs" / "second" / "run.json").exists()
    asked = run("remove", "first", input="y\n")
    assert library.names() == []
    assert in_use() is None
    assert "freed" in asked.output
    assert not (home / "runs" / "first").exists()
