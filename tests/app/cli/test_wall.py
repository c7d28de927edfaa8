"""A model file over which llama.cpp ends its whole process ends no command of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from support.openchat_gguf import TinyVocabulary, write_model
from support.programs import PROGRAM, run_program

LINE = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}\n'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every count in its header is true, and a token stands there twice."""
    names = ["<unk>", "<s>", "<|end_of_turn|>", *(f"<0x{byte:02X}>" for byte in range(256)), "a"]
    kinds = ["unknown", "control", "control", *["byte"] * 256, "normal"]
    vocabulary = TinyVocabulary(
        model="llama", tokens=[*names, "a"], kinds=[*kinds, "normal"],  # type: ignore[arg-type]
        bos=1, eos=2, add_bos=True, scores=[0.0] * 261,
    )  # fmt: skip
    return write_model(
        tmp_path_factory.mktemp("hostile") / "tiny-openchat-3.5.gguf", vocabulary, context=512,
        blocks=1, embedding=32, heads=2, kv_heads=1, feed_forward=64,
    )  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "mydata.jsonl"
    path.write_text(LINE * 3)
    return path


@pytest.mark.parametrize("command", ["finetune", "finetune evaluate", "finetune preview", "render"])
def test_a_vocabulary_that_kills_llama_cpp_is_one_sentence(
    command: str, hostile: Path, data: Path, home: Path
) -> None:
    file = [] if command == "render" else [data]
    done = run_program(
        *command.split(), *file, "-m", hostile, stdin='[{"role": "user", "content": "Hi"}]'
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "killed by signal 6" in done.stderr
    assert "fetch it again" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list((home / "runs").glob("*"))


def test_a_walled_command_tells_what_is_wrong_as_it_would_without_the_wall(tmp_path: Path) -> None:
    done = run_program("--debug", "finetune", "preview", tmp_path / "gone.jsonl")
    assert done.returncode == 1
    assert "gone.jsonl" in done.stderr
    assert "Traceback" in done.stderr
    assert done.stderr.rstrip().endswith("name a file or a folder of data.")
    assert run_program("finetune", "preview", "--count", "x", "y").returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_walled_command_is_not_outlived_by_its_work(tmp_path: Path, number: int) -> None:
    data = tmp_path / "mydata.jsonl"
    data.write_text(LINE.replace("Hi", "one two three " * 2500))
    with subprocess.Popen(
        [*PROGRAM, "finetune", "preview", str(data)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.read(1) == b"#"  # the rest is more than a pipe holds
        (inner,) = psutil.Process(process.pid).children()
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # what a terminal does
            assert process.wait(90) == 130
        else:
            process.kill()
        deadline = time.monotonic() + 30
        while inner.is_running() and inner.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.02)
