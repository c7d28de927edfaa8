"""`ask` and `eval` where another program answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.cli.main import main
from support.openai_like import Bare, Exchange, bare_server
from support.other_program import Other, other_program

KEY = "sk-this-is-secret"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Other]:
    """Our own server."""
    with other_program(tmp_path_factory.mktemp("other")) as other:
        yield other


@pytest.fixture
def bare() -> Iterator[Bare]:
    """A server that does what OpenAI's does, and no more."""
    with bare_server() as bare:
        yield bare


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """A command in this process: its status, and what it wrote."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return status, out, err

    return run


def elsewhere(bare: Bare) -> str:
    if os.name == "nt":
        pytest.skip("Windows connects to no such address")
    return bare.url.replace("127.0.0.1", "0.0.0.0")


def test_another_program_is_asked_and_the_chat_remembers_it(
    run: Run, bare: Bare, home: Path
) -> None:
    status, out, err = run("ask", "--engine", bare.url, "Hello?")
    assert (status, out) == (0, "Hello there.\n")
    assert f"goes to another program on this machine, {bare.url}" in err
    name = f"gpt@{bare.url.removeprefix('http://').removesuffix('/v1')}"
    with closing(ChatStore.open(home)) as store:
        (chat,) = store.chats()
        _, reply = store.branch(chat.id)
        assert (chat.model, reply.model, reply.template) == (name, name, "remote")
    assert run("ask", "-c", "Again?")[0] == 0  # without a word of the engine
    assert len(bare.chats[-1].body["messages"]) == 3


def test_words_that_leave_this_machine_are_announced_and_private_ones_do_not(
    run: Run, bare: Bare
) -> None:
    url = elsewhere(bare)
    status, _, err = run("ask", "--engine", url, "Hello?")
    assert status == 0
    assert f"Remote: what you write leaves this machine, for {url}." in err
    assert "unencrypted" in err
    status, out, err = run("ask", "--engine", url, "--private", "Hello?")
    assert (status, out) == (1, "")
    assert "This chat is private" in err
    status, out, err = run("--offline", "ask", "--engine", url, "Hello?")
    assert (status, out) == (1, "")
    assert "OPENCHAT_LOCAL_OFFLINE" in err
    assert len(bare.chats) == 1


def test_a_named_engine_and_its_key(
    run: Run, bare: Bare, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "config.toml").write_text(
        f'[engines.mine]\nurl = "{bare.url}"\nmodel = "gpt"\napi_key_env = "MY_KEY"\n'
    )
    monkeypatch.setenv("MY_KEY", KEY)
    assert run("ask", "-m", "@mine", "-v", "Hello?")[:2] == (0, "Hello there.\n")
    assert bare.chats[-1].headers["Authorization"] == f"Bearer {KEY}"
    bare.answers["/v1/models"] = lambda exchange: exchange.json({}, 401)
    shown = "".join(map(str, run("--debug", "ask", "--engine", "mine", "Hello?")))
    assert "does not take the API key in MY_KEY" in shown
    shown += "".join(map(str, run("config", "show")))
    kept = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert KEY not in shown
    assert KEY.encode() not in kept
    assert f'engines.mine.url = "{bare.url}"' in shown


@pytest.mark.parametrize("origin", [None, "elsewhere"])
def test_a_chat_does_not_lead_elsewhere_by_itself(
    run: Run, bare: Bare, home: Path, origin: str | None
) -> None:
    """It may come from a file of somebody's, who would like to be told what is written in it."""
    home.mkdir()
    url, engine = elsewhere(bare), elsewhere(bare)
    if origin is not None:  # an engine of one's own, but a chat of somebody else's
        engine = "mine"
        (home / "config.toml").write_text(f'[engines.mine]\nurl = "{url}"\n')
    with closing(ChatStore.open(home)) as store:
        chat = store.new_chat(model=f"gpt@{engine}")
        store.add_message(chat.id, None, "user", "Hello")
        with store._database.writing() as connection:
            connection.execute("UPDATE chats SET origin = ?", (origin,))
    status, out, err = run("ask", "-c", "A secret")
    assert (status, out) == (1, "")
    assert f"This chat was last at {url}" in err
    assert bare.asked == []
    assert run("ask", "-c", "--engine", engine, "A secret")[0] == 0


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (("--threads", "2"), 2, "--threads belongs to an engine of this machine"),
        (("--raw",), 2, "--raw belongs to an engine of this machine"),
        (("--top-k", "5"), 1, "knows no top-k"),
        (("--condition", "Math Correct"), 1, "knows no conditions"),
        (("--adapter", "mine"), 1, "has no adapters of ours"),
        (("-m", "gpt", "--adapter", "mine"), 1, "has no adapters of ours"),
        (("-m", "gpt@other"), 2, "-m names an engine itself"),
    ],
)
def test_what_cannot_be_had_there_is_refused_and_nothing_kept(
    run: Run, bare: Bare, home: Path, flags: tuple[str, ...], status: int, said: str
) -> None:
    done, out, err = run("ask", "--engine", bare.url, *flags, "Hello?")
    assert (done, out) == (status, "")
    assert said in err
    assert bare.chats == []
    if (home / "chats.db").exists():
        with closing(ChatStore.open(home)) as store:
            assert store.chats() == []


def test_two_are_compared_of_which_one_is_elsewhere(
    run: Run, bare: Bare, other: Other, tmp_path: Path
) -> None:
    """A, of our own server; B, far away; the judge far away, too."""

    def judge_or_answer(exchange: Exchange) -> None:
        if "response_format" in exchange.asked.body:
            exchange.says(json.dumps({"why": "It is.", "verdict": "first"}))
        else:
            exchange.says(f"An answer from afar to {len(exchange.asked.body['messages'])} turns.")

    bare.replies(judge_or_answer)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("Hello?\nWho are you?\n")
    far = f"gpt@{elsewhere(bare)}"
    status, out, err = run(
        "eval", "compare", f"engine={other.url},adapter=mine", far, "--prompts", prompts,
        "--judge", far, "--max-tokens", "6", "--json",
    )  # fmt: skip
    assert status == 0, err
    assert f"another program on this machine, {other.url}/v1" in err
    assert f"Remote: what you write leaves this machine, for {elsewhere(bare)}" in err
    assert "may be another model another day" in err
    assert "The judge is B itself" in err
    made: dict[str, Any] = json.loads(out)
    report = json.loads((Path(made["folder"]) / "made_by.json").read_text())
    a, b = report["contenders"]
    assert a["model"].startswith("openchat-tiny:mine@127.0.0.1:")
    assert b["model"] == far
    asked = len(bare.chats)
    assert run("eval", "compare", f"engine={other.url},adapter=mine", far, "--prompts", prompts,
               "--judge", far, "--max-tokens", "6")[0] == 0  # fmt: skip
    assert len(bare.chats) == asked  # all that was answered and judged is kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("engine={bare},top_k=3", "knows no top-k"),
        ("engine={bare},condition=Math Correct", "knows no conditions"),
        ("engine={bare},scale=2", "has its own way with scale"),
        ("engine={bare},model=gpt@other", "names an engine already"),
    ],
)
def test_a_contender_that_cannot_be_is_refused(
    run: Run, bare: Bare, tmp_path: Path, words: str, said: str
) -> None:
    (tmp_path / "prompts.txt").write_text("Hello?\n")
    status, _, err = run(
        "eval", "compare", "base", words.format(bare=bare.url),
        "--prompts", tmp_path / "prompts.txt", "--judge", "base",
    )  # fmt: skip
    assert status == 1
    assert said in err


def test_choices_are_picked_there_as_they_are_here(run: Run, other: Other, tmp_path: Path) -> None:
    rows = [
        {"question": f"What is {n} + {n}?", "choices": [str(2 * n), str(n)], "answer": 0}
        for n in range(1, 7)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = []
    for who in (("-m", other.model), ("--engine", other.url)):
        status, out, err = run("eval", "choice", tmp_path / "sums.jsonl", *who, "--json")
        assert status == 0, err
        lines = (Path(json.loads(out)["folder"]) / "rows.jsonl").read_text().splitlines()
        found.append([json.loads(line) for line in lines])
    here, there = found
    assert len(here) == 6
    for one, another in zip(here, there, strict=True):
        assert one["chosen"] == another["chosen"]
        assert another["log_likelihoods"] == pytest.approx(one["log_likelihoods"], abs=1e-2)


def test_what_scores_are_not_told_of_is_refused(run: Run, bare: Bare, tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    file.write_text(json.dumps({"question": "1 + 1?", "choices": ["2", "3"], "answer": 0}) + "\n")
    status, _, err = run("eval", "choice", file, "--engine", bare.url)
    assert status == 1
    assert "127.0.0.1" in err
    status, _, err = run("eval", "loss", file, "--engine", bare.url)
    assert status == 1
    assert "name a model of this machine" in err
    assert run("eval", "loss", file, "-m", f"@{bare.url}") == (status, "", err)
    assert bare.chats == []
    bare.replies(lambda exchange: exchange.says("A"))
    assert run("eval", "choice", file, "--engine", bare.url, "--by", "answer")[0] == 0
