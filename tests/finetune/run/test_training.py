"""Whole runs of a tiny model in their own process: killed, stopped, resumed, refused."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.events import (
    DataRead,
    Done,
    NoticeEvent,
    Phase,
    RunEvent,
    StepEvent,
    ValidationEvent,
)
from openchat_local.finetune.run.extension import Limits, extended
from openchat_local.finetune.run.job import Job
from openchat_local.finetune.run.schedule import Schedule
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.finetune.run.supervisor import Training
from openchat_local.models.errors import OpenChatError
from support.openchat_gguf import openchat_vocabulary, write_model

STEPS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty short conversations of two classes; a test leaves them as they are."""
    random_words = random.Random(1)
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    with path.open("w") as file:
        for number in range(40):
            words = " ".join(random_words.choices(["red", "green", "blue", "grey"], k=12))
            messages = [
                {"role": "user", "content": f"Say {number}: {words}"},
                {"role": "assistant", "content": f"{words} indeed."},
            ]
            name = "gpt4" if number % 4 == 0 else "gpt35"
            file.write(json.dumps({"messages": messages, "class": name}) + "\n")
    return path


def begun(folder: Path, name: str, base: Path, data: Path, **changes: Any) -> RunDirectory:
    """A run's directory; keywords change its settings."""
    settings = RunSettings(
        **{
            "name": name,
            "base": base,
            "data": data,
            "backend": "mlx",  # which a process imports in two thirds of torch's time
            "lora": LoraConfig(rank=4, dropout=0.1),
            "optimizer": OptimizerConfig(learning_rate=5e-3),
            "steps": STEPS,
            "tokens_per_step": 256,
            "max_length": 128,
            "validations": 4,
        }
        | changes
    )
    return RunDirectory.create(folder / name, {"name": name, "settings": settings.as_json()})


@pytest.fixture
def begin(tmp_path: Path, data: Path, tiny_path: Path) -> Callable[..., RunDirectory]:
    def made(name: str = "run", **changes: Any) -> RunDirectory:
        return begun(tmp_path, name, **{"base": tiny_path, "data": data} | changes)

    return made


@dataclass(frozen=True)
class Finished:
    run: RunDirectory
    events: list[RunEvent]

    def copied_to(self, folder: Path) -> RunDirectory:
        return RunDirectory(shutil.copytree(self.run.path, folder))


@pytest.fixture(scope="module")
def whole(data: Path, tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run that nothing disturbed, and all that it told; a test changes a copy of it."""
    run = begun(tmp_path_factory.mktemp("runs"), "whole", tiny_path, data)
    return Finished(run, finish(run))


def finish(run: RunDirectory) -> list[RunEvent]:
    events = list(Training(run).events())
    assert isinstance(events[-1], Done)
    return events


def losses(run: RunDirectory) -> list[tuple[str, int, float]]:
    return [
        (record["kind"], record["step"], record["result"]["loss"] if "result" in record
         else record["loss"])
        for record in run.metrics()
        if record["kind"] in ("step", "validation")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"messages": [{"role": "user", "content": "Hi"}]}\n{"mess', "line 2: is not JSON"),
        ("", "no conversation"),
        ("[1, 2", "data"),
    ],
)
def test_a_small_file_s_faults_are_told_before_a_backend_is_looked_for(
    begin: Callable[..., RunDirectory], tmp_path: Path, text: str, said: str
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text(text)
    # A device that is nowhere: whoever looks for it says so.
    run = begin(data=data, backend="torch", device="cuda:99")
    with pytest.raises(DataError, match=said):
        Job(run, lambda _: None, lambda: False).do()


def test_a_run_learns_and_leaves_an_adapter(whole: Finished) -> None:
    run, events = whole.run, whole.events
    steps = [event for event in events if isinstance(event, StepEvent)]
    assert [event.step for event in steps] == list(range(1, STEPS + 1))
    validations = [event.loss for event in events if isinstance(event, ValidationEvent)]
    assert min(validations) < validations[0]
    weights, config, card = read_gguf_adapter(run.path / "adapter.gguf")
    assert config.rank == 4
    assert any(np.any(pair.b) for pair in weights.values())
    assert card.condition == "GPT4 Correct"
    assert (run.path / "adapter" / "adapter_config.json").is_file()
    settings = run.settings()
    assert settings["outcome"]["ending"] == "finished"
    assert [rule["reward"] for rule in settings["classes"]] == [1.0, 0.1]
    assert settings["plan"]["measured_bytes"] > 0
    assert settings["data"]["plain_sft"] is False


def test_killed_at_any_moment_a_resumed_run_ends_with_the_same_numbers(
    begin: Callable[..., RunDirectory], whole: Finished
) -> None:
    killed = begin("killed")
    for last in (2, 5):
        training = Training(killed)
        died = False
        try:
            for event in training.events():
                if isinstance(event, StepEvent) and event.step == last:
                    training.stop()  # so that it is not started again
                    assert training.pid is not None
                    os.kill(training.pid, signal.SIGKILL)
        except RunError as error:
            died = "killed by signal 9" in str(error)
        assert died
    finish(killed)
    assert losses(killed) == losses(whole.run)
    expected, _, _ = read_gguf_adapter(whole.run.path / "adapter.gguf")
    found, _, _ = read_gguf_adapter(killed.path / "adapter.gguf")
    for name, pair in expected.items():
        np.testing.assert_array_equal(found[name].a, pair.a)
        np.testing.assert_array_equal(found[name].b, pair.b)


# Of the workers one after the other, each is killed at its n-th rename. They are forks, so that
# the trainer is imported once.
DEADLY_WORKERS = """
import os, signal, sys
import openchat_local.finetune.backends.mlx.trainer
from openchat_local.finetune.run.worker import main
run, told, *renames = sys.argv[1:]
def deadly(rename):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*arguments, **options)
    return call
for number in renames:
    worker = os.fork()
    if worker == 0:
        left = int(number)
        os.replace, os.rename = deadly(os.replace), deadly(os.rename)
        main([run])
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    with open(told, "a") as file:
        print(code, file=file)
    if code != -signal.SIGKILL:
        break
"""


def test_killed_between_temporary_write_and_rename_nothing_is_lost(
    begin: Callable[..., RunDirectory], whole: Finished, tmp_path: Path
) -> None:
    killed, told = begin("killed"), tmp_path / "told"
    renames = map(str, (0, 1, 2, 3, 5, 7, 9, 1000))
    command = [sys.executable, "-c", DEADLY_WORKERS, str(killed.path), str(told), *renames]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as workers:
        assert workers.wait(240) == 0
    *deaths, last = map(int, told.read_text().split())
    assert last == 0
    assert deaths == [-signal.SIGKILL] * len(deaths)
    assert len(deaths) >= 5
    assert losses(killed) == losses(whole.run)
    adapter = whole.run.path / "adapter.gguf"
    assert (killed.path / "adapter.gguf").read_bytes() == adapter.read_bytes()
    left_over = [path.name for path in killed.path.iterdir() if path.name.endswith(".old")]
    assert left_over == []


def abort(training: Training, last_words: str) -> None:
    """What Metal does where memory runs out: some words, and SIGABRT."""
    assert training.pid is not None
    with open(f"/proc/{training.pid}/fd/2", "w") as stderr:
        stderr.write(last_words)
    os.kill(training.pid, signal.SIGABRT)


@pytest.mark.skipif(sys.platform != "linux", reason="writes to another process's stderr")
def test_what_died_of_memory_goes_on_by_itself_with_smaller_batches(
    begin: Callable[..., RunDirectory],
) -> None:
    run = begin(tokens_per_batch=256, tokens_per_step=256, packing=False, steps=4)
    training = Training(run)
    events = []
    deaths = 0
    for event in training.events():
        events.append(event)
        if deaths == 0 and isinstance(event, DataRead):
            deaths = 1  # dies again while it tries the costliest batch
        if deaths == 1 and isinstance(event, Phase) and event.name.startswith("trying"):
            abort(training, "[METAL] Command buffer execution failed: Insufficient Memory\n")
            deaths = 2
        if deaths == 2 and isinstance(event, StepEvent) and event.step == 2:
            abort(training, "terminate called after throwing an instance of 'std::bad_alloc'\n")
            deaths = 3
    assert isinstance(events[-1], Done)
    notices = [event.text for event in events if isinstance(event, NoticeEvent)]
    assert [("anew" in text, "from the last checkpoint" in text) for text in notices] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert run.settings()["plan"]["layout"]["tokens_per_batch"] == 64


def test_another_death_is_told_as_what_it_is_and_changes_nothing(
    begin: Callable[..., RunDirectory],
) -> None:
    run = begin()
    training = Training(run)
    events = training.events()
    while not isinstance(event := next(events), StepEvent) or event.step < 4:
        pass
    plan = run.settings()["plan"]
    assert training.pid is not None
    os.kill(training.pid, signal.SIGABRT)
    with pytest.raises(RunError, match=r"signal 6.*step \d is kept.*finetune --resume") as raised:
        list(events)
    assert "memory" not in str(raised.value)
    assert run.settings()["plan"] == plan


def test_whoever_stops_listening_leaves_no_process(begin: Callable[..., RunDirectory]) -> None:
    training = Training(begin())
    events = training.events()
    next(events)
    assert training.pid is not None
    child = psutil.Process(training.pid)
    events.close()
    assert not child.is_running()


def test_a_finished_run_goes_on_for_longer(whole: Finished, tmp_path: Path) -> None:
    run = whole.copied_to(tmp_path / "longer")
    latest = run.checkpoints.latest()
    assert latest is not None
    longer, _ = extended(run.settings(), latest.progress, Limits(steps=STEPS + 2))
    run.write_settings(longer)
    finish(run)
    steps = [record for record in run.metrics() if record["kind"] == "step"]
    assert [record["step"] for record in steps] == list(range(1, STEPS + 3))
    rates = [record["learning_rate"] for record in steps]
    schedule = Schedule(5e-3, STEPS + 2, since=STEPS, since_rate=rates[STEPS - 1])
    assert rates[STEPS:] == [schedule.rate(STEPS), schedule.rate(STEPS + 1)]
    assert run.settings()["outcome"]["step"] == STEPS + 2


def test_stopping_keeps_a_usable_adapter(begin: Callable[..., RunDirectory]) -> None:
    run = begin(steps=10_000)
    training = Training(run)
    for event in training.events():
        if isinstance(event, StepEvent) and event.step == 3:
            training.stop()
    assert isinstance(event, Done)
    assert event.outcome is not None
    assert event.outcome.ending == "interrupted"
    weights, _, _ = read_gguf_adapter(run.path / "adapter.gguf")
    assert any(np.any(pair.b) for pair in weights.values())  # not the base, measured before
    assert 3 <= run.settings()["outcome"]["step"] < 10_000


def test_what_cannot_be_trained_is_told_before_the_data_are_read(
    begin: Callable[..., RunDirectory], tmp_path: Path
) -> None:
    other = write_model(
        tmp_path / "other.gguf", openchat_vocabulary(), architecture="mamba", weights=False
    )
    for changes, sentence in (
        ({"base": other}, "mamba"),
        ({"lora": LoraConfig(targets=("attn_x",))}, "attn_x cannot be adapted"),
    ):
        told: list[object] = []
        run = begin(sentence[:5], **changes)
        with pytest.raises(OpenChatError, match=sentence):
            Job(run, told.append, lambda: False).do()
        assert told == [Phase("reading the model")]


def test_data_that_cannot_be_trained_on_is_told_with_every_problem(
    begin: Callable[..., RunDirectory], data: Path, tmp_path: Path
) -> None:
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_text(data.read_text() + '{"messages": []}\nnot json\n')
    with pytest.raises(OpenChatError) as raised:
        finish(begin(data=spoilt))
    assert "line 41" in str(raised.value)
    assert "line 42" in str(raised.value)


def test_a_run_whose_data_changed_is_not_resumed(
    whole: Finished, data: Path, tmp_path: Path
) -> None:
    before = data.read_text()
    lines = before.splitlines(keepends=True)
    data.write_text("".join(lines[1:]))
    try:
        with pytest.raises(OpenChatError, match="not what this run began with"):
            finish(whole.copied_to(tmp_path / "run"))
    finally:
        data.write_text(before)


def test_a_run_whose_model_changed_is_not_resumed(whole: Finished, tmp_path: Path) -> None:
    run = whole.copied_to(tmp_path / "run")
    settings = run.settings()
    run.write_settings(settings | {"base": settings["base"] | {"fingerprint": "another"}})
    with pytest.raises(RunError, match="not the model that this run began with"):
        Job(run, lambda _: None, lambda: False).do()
