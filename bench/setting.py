"""What every part measures with: the starter, prompts, and a home that is thrown away."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import GenerationRequest, Sampling
from openchat_local.models.library import resolve_model

MARKDOWN_PROMPT = (
    "Write a long Markdown tutorial about sorting in Python: a heading, a short list, "
    "and several fenced code blocks with bubble sort, insertion sort and quicksort."
)
TOKENS = 400


def rounds(default: int) -> int:
    """How often the contenders take their turns: `make bench ARGS="NAME --rounds 2"`."""
    return int(os.environ.get("BENCH_ROUNDS") or default)


def minutes() -> float:
    """How long to go on under load: `make bench ARGS="serve --minutes 10"`; 0 for not at all."""
    return float(os.environ.get("BENCH_MINUTES") or 0)


def starter() -> Path:
    return resolve_model("starter", None)


@cache
def findings() -> Path:
    """Where engines of this run keep what they find out about the machine."""
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder) / "machine.json"


def markdown_request(tokens: int = TOKENS) -> GenerationRequest:
    conversation = Conversation((Message("user", MARKDOWN_PROMPT),))
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    return GenerationRequest(conversation, sampling, speculate=False)


@contextmanager
def temporary_home() -> Iterator[Path]:
    """`OPENCHAT_LOCAL_HOME` in a folder that is removed afterwards."""
    before = os.environ.get("OPENCHAT_LOCAL_HOME")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["OPENCHAT_LOCAL_HOME"] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop("OPENCHAT_LOCAL_HOME")
            if before is not None:
                os.environ["OPENCHAT_LOCAL_HOME"] = before


def program(*arguments: str) -> list[str]:
    """The installed command of this environment."""
    command = shutil.which("openchat-local", path=str(Path(sys.executable).parent))
    if command is None:
        sys.exit("openchat-local is not installed beside this Python: run make setup")
    return [command, *arguments]


def run(*command: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed, with `environment` beside what there is."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False,
        env=os.environ | environment,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return done
