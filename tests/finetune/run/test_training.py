"""Whole runs of a tiny model in their own process: killed, stopped, resumed, refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from openchat_local.finetune.adapter.gguf_file import read_gguf_adapter
from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.run.directory import RunDirectory, RunError
from openchat_local.finetune.run.extension import Limits, extended
from openchat_local.finetune.run.job import Job, Phase
from openchat_local.finetune.run.schedule import Schedule
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.finetune.run.supervisor import Event, Training
from openchat_local.models.errors import OpenChatError
from support.openchat_gguf import openchat_vocabulary, write_model

STEPS = 8


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty short conversations of two classes."""
    random_words = random.Random(1)
    path = tmp_path / "data.jsonl"
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


@pytest.fixture
def begin(tmp_path: Path, data: Path, tiny_path: Path) -> Callable[..., RunDirectory]:
    """Make a run's directory; keywords change its settings."""

    def made(name: str = "run", **changes: Any) -> RunDirectory:
        settings = RunSettings(
            **{
                "name": name,
                "base": tiny_path,
                "data": data,
                "lora": LoraConfig(rank=4, dropout=0.1),
                "optimizer": OptimizerConfig(learning_rate=5e-3),
                "steps": STEPS,
                "tokens_per_step": 256,
                "max_length": 128,
                "validations": 4,
            }
            | changes
        )
        fields = {"name": name, "settings": settings.as_json()}
        return RunDirectory.create(tmp_path / name, fields)

    return made


def finish(run: RunDirectory) -> list[Event]:
    events = list(Training(run).events())
    assert events[-1]["type"] == "Done"
    return events


def losses(run: RunDirectory) -> list[tuple[str, int, float]]:
    return [
        (record["kind"], record["step"], record["result"]["loss"] if "result" in record
         else record["loss"])
        for record in run.metrics()
        if record["kind"] in ("step", "validation")
    ]  # fmt: skip


def test_a_run_learns_and_leaves_an_adapter(begin: Callable[..., RunDirectory]) -> None:
    run = begin()
    events = finish(run)
    steps = [event for event in events if event["type"] == "StepEvent"]
    assert [event["step"] for event in steps] == list(range(1, STEPS + 1))
    validations = [event["loss"] for event in events if event["type"] == "ValidationEvent"]
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
    begin: Callable[..., RunDirectory],
) -> None:
    whole = begin("whole")
    finish(whole)
    killed = begin("killed")
    for last in (2, 5):
        training = Training(killed)
        died = False
        try:
            for event in training.events():
                if event["type"] == "StepEvent" and event["step"] == last:
                    training.stop()  # so that it is not started again
                    assert training.pid is not None
                    os.kill(training.pid, signal.SIGKILL)
        except RunError as error:
            died = "killed by signal 9" in str(error)
        assert died
    finish(killed)
    assert losses(killed) == losses(whole)
    expected, _, _ = read_gguf_adapter(whole.path / "adapter.gguf")
    found, _, _ = read_gguf_adapter(killed.path / "adapter.gguf")
    for name, pair in expected.items():
        np.testing.assert_array_equal(found[name].a, pair.a)
        np.testing.assert_array_equal(found[name].b, pair.b)


DEADLY_WORKER = """
import os, signal, sys
left = int(sys.argv[2])
def deadly(rename):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*arguments, **options)
    return call
os.replace, os.rename = deadly(os.replace), deadly(os.rename)
from openchat_local.finetune.run.worker import main
main([sys.argv[1]])
"""


def test_killed_between_temporary_write_and_rename_nothing_is_lost(
    begin: Callable[..., RunDirectory],
) -> None:
    whole, killed = begin("whole"), begin("killed")
    finish(whole)
    deaths = 0
    for renames in (0, 1, 2, 3, 5, 7, 9, 1000):
        command = [sys.executable, "-c", DEADLY_WORKER, str(killed.path), str(renames)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        with worker:
            code = worker.wait(120)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
    assert deaths >= 5
    assert losses(killed) == losses(whole)
    assert (killed.path / "adapter.gguf").read_bytes() == (whole.path / "adapter.gguf").read_bytes()
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
        if deaths == 0 and event["type"] == "DataRead":
            deaths = 1  # dies again while it tries the costliest batch
        if deaths == 1 and event["type"] == "Phase" and event["name"].startswith("trying"):
            abort(training, "[METAL] Command buffer execution failed: Insufficient Memory\n")
            deaths = 2
        if deaths == 2 and event["type"] == "StepEvent" and event["step"] == 2:
            abort(training, "terminate called after throwing an instance of 'std::bad_alloc'\n")
            deaths = 3
    assert events[-1]["type"] == "Done"
    notices = [event["text"] for event in events if event["type"] == "NoticeEvent"]
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
    while (event := next(events))["type"] != "StepEvent" or event["step"] < 4:
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


def test_a_finished_run_goes_on_for_longer(begin: Callable[..., RunDirectory]) -> None:
    run = begin(steps=3)
    finish(run)
    latest = run.latest()
    assert latest is not None
    longer, _ = extended(run.settings(), latest.progress, Limits(steps=5))
    run.write_settings(longer)
    finish(run)
    steps = [record for record in run.metrics() if record["kind"] == "step"]
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5]
    rates = [record["learning_rate"] for record in steps]
    schedule = Schedule(5e-3, 5, since=3, since_rate=rates[2])
    assert rates[3:] == [schedule.rate(3), schedule.rate(4)]
    assert run.settings()["outcome"]["step"] == 5


def test_stopping_keeps_a_usable_adapter(begin: Callable[..., RunDirectory]) -> None:
    run = begin(steps=10_000)
    training = Training(run)
    for event in training.events():
        if event["type"] == "StepEvent" and event["step"] == 3:
            training.stop()
    assert event["outcome"]["ending"] == "interrupted"
    weights, _, _ = read_gguf_adapter(run.path / "adapter.gguf")
    assert any(np.any(pair.b) for pair in weights.values())  # not the base, measured before
    assert 3 <= run.settings()["outcome"]["step"] < 10_000


def test_what_cannot_be_trained_is_told_before_the_data_are_read(
    begin: Callable[..., RunDirectory], tmp_path: Path
) -> None:
    other = write_model(
        tmp_path / "other.gguf", openchat_vocabulary(), architecture="qwen3", weights=False
    )
    for changes, sentence in (
        ({"base": other}, "qwen3"),
        ({"lora": LoraConfig(targets=("attn_x",))}, "attn_x cannot be adapted"),
    ):
        told: list[object] = []
        run = begin(sentence[:5], **changes)
        with pytest.raises(OpenChatError, match=sentence):
            Job(run, told.append, lambda: False).do()
        assert told == [Phase("reading the model")]


def test_data_that_cannot_be_trained_on_is_told_with_every_problem(
    begin: Callable[..., RunDirectory], data: Path
) -> None:
    with data.open("a") as file:
        file.write('{"messages": []}\nnot json\n')
    with pytest.raises(OpenChatError) as raised:
        finish(begin())
    assert "line 41" in str(raised.value)
    assert "line 42" in str(raised.value)


def test_data_that_changed_is_not_gone_on_with(
    begin: Callable[..., RunDirectory], data: Path
) -> None:
    run = begin()
    finish(run)
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(lines[1:]))
    with pytest.raises(OpenChatError, match="not what this run began with"):
        finish(run)
