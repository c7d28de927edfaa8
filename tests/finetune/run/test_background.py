"""A run that lives by itself: window, supervisor and training are killed, and it is found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.run.background import (
    BackgroundError,
    BackgroundRun,
    background_runs,
    begin_in_background,
)
from openchat_local.finetune.run.beginning import begin_run
from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.events import Closed, Halted, StepEvent, WentOn
from openchat_local.finetune.run.giving_way import replying
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.library.adapters import AdapterLibrary

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills as only POSIX can")

WINDOW = """
import sys
from pathlib import Path
from openchat_local.finetune.run.background import begin_in_background
from openchat_local.finetune.run.beginning import begin_run
import json
home, path, fields = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
begin_in_background(begin_run(path, fields), home=home)
print("begun", flush=True)
sys.stdin.read()
"""
FULL_DISK = """
import resource, sys
from openchat_local.app.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    with path.open("w") as file:
        for number in range(12):
            words = " ".join(["red", "green", "blue", "grey"][number % 4 :] * 3)
            messages = [
                {"role": "user", "content": f"Say {number}: {words}"},
                {"role": "assistant", "content": f"{words} indeed."},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


@pytest.fixture
def fields(data: Path, tiny_path: Path) -> Callable[..., dict[str, Any]]:
    """What is kept of a new run; keywords change its settings."""

    def made(name: str = "mine", **changes: Any) -> dict[str, Any]:
        settings = RunSettings(
            **{
                "name": name, "base": tiny_path, "data": data, "backend": "mlx",
                "lora": LoraConfig(rank=2, dropout=0.1),
                "optimizer": OptimizerConfig(learning_rate=5e-3), "steps": 6,
                "tokens_per_step": 64, "max_length": 64, "validations": 3,
            } | changes
        )  # fmt: skip
        return {"name": name, "settings": settings.as_json(), "begun": time.time()}

    return made


@pytest.fixture
def place(home: Path) -> Path:
    home.mkdir()
    return home


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def steps(run: BackgroundRun) -> int:
    return run.state().step


def trainer(run: BackgroundRun) -> psutil.Process:
    """The process that computes."""
    return psutil.Process(
        next(
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if "openchat_local.finetune.run.worker" in (process.info["cmdline"] or ())
            and str(run.path) in process.info["cmdline"]
        )
    )


def supervisor(run: BackgroundRun) -> psutil.Process:
    parent = trainer(run).parent()
    assert parent is not None
    return parent


def longest_step(run: BackgroundRun) -> float:
    """Seconds."""
    return max(event.seconds for event in run.events()[0] if isinstance(event, StepEvent))


def losses(path: Path) -> list[tuple[str, int, float]]:
    return [
        (record["kind"], record["step"], record["result"]["loss"] if "result" in record
         else record["loss"])
        for record in RunDirectory(path).metrics()
        if record["kind"] in ("step", "validation")
    ]  # fmt: skip


@pytest.fixture
def run(place: Path, fields: Callable[..., dict[str, Any]]) -> Iterator[BackgroundRun]:
    """A run of steps without end, whose window was killed when it had begun."""
    told = json.dumps(fields(steps=100_000))
    arguments = [str(place), str(place / "runs" / "mine"), told]
    window = subprocess.Popen(
        [sys.executable, "-c", WINDOW, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with window:
        assert window.stdout is not None
        assert window.stdout.readline() == b"begun\n"
        window.kill()
    (begun,) = background_runs(place)
    until(lambda: steps(begun) > 1)
    yield begun
    begun.stop()
    until(lambda: not begun.state().at_work)


# One run for all: what costs is to begin one.
def test_a_run_lives_without_its_window_and_does_what_any_window_asks(
    run: BackgroundRun, place: Path, fields: Callable[..., dict[str, Any]]
) -> None:
    assert supervisor(run).terminal() is None
    computing = trainer(run)
    (other,) = background_runs(place)  # in another window
    a_second_one_is_refused(place, fields("second"))
    paused_it_makes_no_step(run, other, place, computing)
    it_gives_way_to_a_reply(run, other, place, computing)
    killed_it_is_found_and_makes_the_same_steps_again(run, place, computing)
    stopped_it_installs_what_it_learned(run, other, place)


def a_second_one_is_refused(place: Path, fields: dict[str, Any]) -> None:
    second = begin_run(place / "runs" / "second", fields)
    with pytest.raises(BackgroundError, match=r"mine is being trained in the background, at step"):
        begin_in_background(second, home=place)
    assert not second.run.path.exists()


def paused_it_makes_no_step(
    run: BackgroundRun, other: BackgroundRun, place: Path, computing: psutil.Process
) -> None:
    other.pause()
    until(lambda: run.state().phase == "paused")
    until(lambda: computing.status() == psutil.STATUS_STOPPED)
    before = (run.path / "metrics.jsonl").read_bytes()
    with replying(place):  # a reply more or less changes nothing
        assert run.state().phase == "paused"
    run.seen()  # of what is at work nothing is forgotten
    standing, longest = time.monotonic(), longest_step(run)
    until(lambda: time.monotonic() - standing > 10 * longest)
    assert (run.path / "metrics.jsonl").read_bytes() == before
    run.go_on()
    made = steps(run)
    until(lambda: steps(other) > made)
    assert longest_step(run) < 10 * longest  # the one that stood still has not counted it


def it_gives_way_to_a_reply(
    run: BackgroundRun, other: BackgroundRun, place: Path, computing: psutil.Process
) -> None:
    with replying(place):
        until(lambda: other.state().phase == "giving way")
        until(lambda: computing.status() == psutil.STATUS_STOPPED)
        stood = steps(run)
    until(lambda: steps(run) > stood)
    events, _ = run.events()
    assert [event.why for event in events if isinstance(event, Halted)] == ["paused", "giving way"]
    assert all(event.seconds > 0 for event in events if isinstance(event, WentOn))


def killed_it_is_found_and_makes_the_same_steps_again(
    run: BackgroundRun, place: Path, computing: psutil.Process
) -> None:
    run.pause()
    until(lambda: run.state().phase == "paused")
    until(lambda: computing.status() == psutil.STATUS_STOPPED)
    made = losses(run.path)
    supervisor(run).kill()
    # Nobody is there to let it go on.
    until(lambda: not computing.is_running() or computing.status() == psutil.STATUS_ZOMBIE)
    (found,) = background_runs(place)
    until(lambda: found.state().phase == "interrupted")
    assert "resume it" in found.state().sentence
    found.resume()
    until(lambda: steps(run) > made[-1][1] and run.state().phase == "training")
    assert losses(run.path)[: len(made)] == made


def stopped_it_installs_what_it_learned(
    run: BackgroundRun, other: BackgroundRun, place: Path
) -> None:
    _, since = run.events()
    other.stop()
    until(lambda: not run.state().at_work)
    state = run.state()
    assert (state.phase, state.problem) == ("ended", None)
    assert state.outcome is not None
    assert state.outcome.ending == "interrupted"
    ((*_, last), _) = run.events(since)
    assert last == Closed("mine", state.sentence)
    facts = AdapterLibrary(place / "adapters").facts("mine")
    assert (facts["run"], facts["run_folder"]) == (run.id, str(Path("runs") / "mine"))
    run.seen()
    assert background_runs(place) == []


def test_a_full_disk_is_found_later_as_a_sentence_and_the_name_is_free_again(
    place: Path, fields: Callable[..., dict[str, Any]], data: Path, tiny_path: Path
) -> None:
    arguments = [
        "finetune", str(data), "--name", "mine", "-m", str(tiny_path), "--background",
        "--backend", "mlx", "--steps", "6", "--rank", "2", "--tokens-per-step", "64",
    ]  # fmt: skip
    begun = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *arguments], capture_output=True, text=True, check=True
    )
    assert "mine is being trained in the background" in begun.stdout
    (run,) = background_runs(place)
    until(lambda: not run.state().at_work)
    (found,) = background_runs(place)
    state = found.state()
    assert state.phase == "failed"
    assert state.problem is not None
    assert re.search(r"could not be written .*make room; .* begin again", state.problem)
    begin_run(run.path, fields()).discard()
    with pytest.raises(RunError, match="no run in"):
        found.resume()


def test_of_two_that_begin_at_once_one_is_refused_and_the_other_leaves_nothing_when_stopped(
    place: Path, fields: Callable[..., dict[str, Any]]
) -> None:
    def begun(name: str) -> BackgroundRun | str:
        try:
            return begin_in_background(begin_run(place / "runs" / name, fields(name)), home=place)
        except BackgroundError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        first, second = pool.map(begun, ("one", "two"))
    run, refusal = (first, second) if isinstance(second, str) else (second, first)
    assert isinstance(run, BackgroundRun)
    assert isinstance(refusal, str)
    assert f"{run.name} is being trained in the background" in refusal
    assert [path.name for path in (place / "runs").iterdir()] == [run.name]
    run.stop()
    until(lambda: not run.state().at_work)
    assert run.state().phase == "ended"
    assert "nothing is kept" in run.state().sentence
    assert list((place / "runs").glob("*")) == []
