"""`eval compare` as a person meets it: in a terminal, in a pipe, stopped and gone on with."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.contenders import parse_contender
from openchat_local.app.evaluations import evaluations_dir
from openchat_local.finetune.evaluation.compare.answers import answer_prompts
from openchat_local.finetune.evaluation.compare.prompts import read_prompts
from openchat_local.finetune.evaluation.rows import RowFile, cache_file
from openchat_local.models.engine.protocol import (
    Engine,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Sampling,
    TextDelta,
    Usage,
)
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_here
from support.terminal import Terminal

KEYS = b"1 or 2 is better"
OTHER = "temperature=0.5"  # B, whose name must not be seen
EVIL = "\x1b]0;evil\x07\x1b[2J\x9b5m 中文 👨‍👩‍👧"
USAGE = Usage(1, 0, 0, 1, 3, 0.0, 0.0, 0.0, 0.0)


class Saying(Engine):
    """Answers every prompt with what `text` makes of it."""

    def __init__(self, text: Callable[[str], str]) -> None:
        self._text = text

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        yield TextDelta(self._text(request.conversation.messages[-1].content), 3)
        yield Finished("stop", USAGE, ())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "tiny.gguf"
    sizes = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 2}
    return write_model(path, openchat_vocabulary(), **sizes)  # type: ignore[arg-type]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "my prompts.txt"
    path.write_text("one\ntwo\nthree\n")
    return path


@pytest.fixture
def answered(model: Path, prompts: Path) -> None:
    """Both have answered: A with "from-a", B with "from-b" and what no terminal should obey."""
    sampling = Sampling(temperature=0.0, top_p=0.95, seed=0, max_tokens=512)
    for words, text in (("base", "from-a"), (OTHER, f"from-b {EVIL}")):
        by = parse_contender(words, {"model": str(model)}, sampling)
        with RowFile(cache_file(evaluations_dir(), "answers", {"by": by.identity})) as kept:
            engine = partial(Saying, f"{{}} {text}".format)
            answer_prompts(engine, by, read_prompts(prompts).prompts, kept)


def arguments(model: Path, prompts: Path, *more: str) -> list[str]:
    return ["eval", "compare", "base", OTHER, "--prompts", str(prompts), "-m", str(model), *more]


@pytest.fixture
def start(model: Path, prompts: Path) -> Iterator[Callable[..., Terminal]]:
    """The command in a terminal of its own; every one is closed at the end."""
    opened: list[Terminal] = []

    def opening(*more: str, **options: Any) -> Terminal:
        opened.append(Terminal(*arguments(model, prompts, *more), **options))
        return opened[-1]

    yield opening
    for terminal in opened:
        terminal.close()


def press(terminal: Terminal, key: bytes, until: bytes = KEYS) -> None:
    terminal.output = b""
    terminal.press(key)
    terminal.wait_for(until)


def summary(home: Path) -> dict[str, Any]:
    (folder,) = (home / "evaluations").glob("compare-*")
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def rows(home: Path) -> list[dict[str, Any]]:
    (folder,) = (home / "evaluations").glob("compare-*")
    return [json.loads(line) for line in (folder / "rows.jsonl").open(encoding="utf-8")]


@pytest.mark.usefixtures("answered")
def test_a_person_judges_without_knowing_whose_answers_these_are(
    start: Callable[..., Terminal], home: Path
) -> None:
    terminal = start()
    terminal.wait_for(KEYS)
    press(terminal, b"12")  # in one breath: not a person's
    assert b"1 of 3" in terminal.output
    press(terminal, b"2")
    assert "2 of 3 · the vote before: 2".encode() in terminal.output
    press(terminal, b"u")
    assert "1 of 3 · the last vote is taken back".encode() in terminal.output
    press(terminal, b"1")
    press(terminal, b"t")
    press(terminal, "２".encode(), b"Enter: who was who")  # as an input method writes it
    assert not list((home / "evaluations").glob("compare-*"))
    press(terminal, b"\r", b"The report: ")
    assert terminal.process.wait(20) == 0
    first, second, third = rows(home)
    assert first["judged"] == first["shown_first"]
    assert second["judged"] == "tie"
    assert third["judged"] == ("b" if third["shown_first"] == "a" else "a")
    assert all("from-a" in row["a"] for row in rows(home))
    figures = summary(home)
    wins = sum(row["judged"] == "a" for row in rows(home))
    assert (figures["win_rate"]["wins"], figures["win_rate"]["losses"]) == (wins, 2 - wins)


@pytest.mark.usefixtures("answered")
def test_neither_a_name_nor_what_an_answer_would_do_to_a_terminal_is_shown(
    start: Callable[..., Terminal], home: Path
) -> None:
    for size in ((80, 24), (120, 40)):
        terminal = start(size=size)
        terminal.wait_for(KEYS)
        terminal.wait_for("中文".encode())
        assert "␛]0;evil␇␛[2J<U+009B>5m".encode() in terminal.output
        shown = terminal.output.decode()
        for wrong in ("\x1b]0;", "\x9b", OTHER, "base", "tiny"):
            assert wrong not in shown
        terminal.press(b"q")
        terminal.wait_for(b"0 of 3 pairs are judged")
        assert terminal.process.wait(20) == 0
        assert terminal.output.index(b"\x1b[?1049l") < terminal.output.index(b"0 of 3 pairs")
    assert not list((home / "evaluations").glob("compare-*"))


@pytest.mark.usefixtures("answered")
def test_votes_outlive_a_kill_and_the_same_command_goes_on(
    start: Callable[..., Terminal], home: Path, model: Path, prompts: Path
) -> None:
    terminal = start()
    terminal.wait_for(KEYS)
    press(terminal, b"t", b"2 of 3")  # what is shown next is on disk
    terminal.process.send_signal(signal.SIGKILL)
    terminal.process.wait()
    terminal = start()
    terminal.wait_for(KEYS)
    assert b"2 of 3" in terminal.output
    press(terminal, b"b")
    press(terminal, b"\x03", b"2 of 3 pairs are judged, and kept")
    assert terminal.process.wait(20) == 130
    done = run_here(*arguments(model, prompts, "--reveal", "--json"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["win_rate"]["ties"], said["win_rate"]["both_bad"]) == (1, 1)
    assert "Not judged yet: 1 pair." in said["notes"]
    assert [row["judged"] for row in rows(home)] == ["tie", "both bad"]


@pytest.mark.usefixtures("answered")
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_terminal_is_given_back_however_it_ends(start: Callable[..., Terminal]) -> None:
    terminal = start()
    before = terminal.modes()
    terminal.wait_for(KEYS)
    assert terminal.modes() != before
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(20) == 143
    terminal.read(0.2)
    assert terminal.output.endswith(b"\x1b[?25h\x1b[?1049l")
    assert terminal.modes() == before


def test_where_nobody_can_press_a_key_it_says_what_to_do_before_anything_is_written(
    model: Path, prompts: Path
) -> None:
    done = run_here(*arguments(model, prompts))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "this is no terminal" in done.stderr
    assert "--judge base" in done.stderr
    done = run_here(*arguments(model, prompts, "--reveal"))
    assert done.returncode == 1
    assert "Nothing is judged yet: leave --reveal away" in done.stderr
    assert not list((evaluations_dir() / "cache").glob("*"))


@pytest.mark.usefixtures("answered")
def test_there_is_nothing_to_reveal_before_anything_is_judged(model: Path, prompts: Path) -> None:
    done = run_here(*arguments(model, prompts, "--reveal"))
    assert done.returncode == 1
    assert "Nothing is judged yet" in done.stderr


def test_a_model_judges_what_two_real_contenders_said(
    model: Path, prompts: Path, home: Path, tmp_path: Path
) -> None:
    more = ("--max-tokens", "5", "--judge", "base", "--judge-by", "likelihood", "--json")
    done = run_here(*arguments(model, prompts, *more, "--out", str(tmp_path / "out")))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    rate = said["win_rate"]
    assert sum(rate[name] for name in ("wins", "losses", "ties", "both_bad")) == 3
    assert (tmp_path / "out" / "report.html").is_file()
    lines = [*(home / "evaluations" / "cache").glob("*")]
    before = {path: path.read_bytes() for path in lines}
    again = run_here(*arguments(model, prompts, *more, "--out", str(tmp_path / "out")))
    assert json.loads(again.stdout) == said
    assert {path: path.read_bytes() for path in lines} == before


def test_answers_that_are_there_when_one_stops_are_kept(
    start: Callable[..., Terminal], prompts: Path
) -> None:
    prompts.write_text("".join(f"say {number}\n" for number in range(400)))
    terminal = start("--max-tokens", "60")
    for _ in range(6000):
        terminal.read(0.01)
        kept = [path.read_bytes() for path in (evaluations_dir() / "cache").glob("answers-*")]
        if sum(each.count(b"\n") for each in kept) > 3:
            break
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for(b"of 800 answers are kept; the same command goes on from there.")
    assert terminal.process.wait(30) == 130


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("base", "base"), "base and base are one and the same"),
        (("base", "nothing-of-that-name"), "nothing-of-that-name"),
        (("base", "condition=x,colour=3"), "'colour=3'"),
    ],
)
def test_who_cannot_be_compared_is_told(
    model: Path, prompts: Path, words: tuple[str, str], says: str
) -> None:
    done = run_here("eval", "compare", *words, "--prompts", str(prompts), "-m", str(model))
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
