"""The command lines of the README and the manual, each run as it is written there."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from openchat_local.app.cli.main import cli
from support.adapters import write_random_adapter
from support.hub import REPOSITORY, fake_hub
from support.openchat_gguf import openchat_vocabulary, write_model

ROOT = Path(__file__).parents[2]
PAPERS = [
    "README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*/README.md")),
]
PROGRAM = "openchat-local"

# Other programs, and why they are not run here: they would install this project once more,
# or start many processes on machines that are not there.
OTHERS = ("make", "pipx", "py", ".venv", "torchrun", "mlx.launch", "stick", "~/openchat-local")

# Lines of ours that have a test of their own, for what they take: minutes, or a GPU's worth of
# memory. Here their options are checked.
ELSEWHERE = (
    "openchat-local bundle",  # tests/app/cli/test_bundle.py makes one and installs it
    "openchat-local finetune examples/",  # tests/app/cli/test_finetune.py trains the example
    "openchat-local eval ablation",  # tests/finetune/evaluation/test_ablation.py trains a ladder
    "openchat-local ask --adapter commits",
    "python examples/",
    "openchat-local finetune --from-chats",  # tests/app/cli/test_finetune_chats.py
    "openchat-local finetune attach",  # tests/app/cli/test_finetune_attach.py
    "openchat-local finetune mydata.jsonl --name mine --background",  # and the same
    "openchat-local finetune preview rows.jsonl",
    "openchat-local history export --",  # tests/app/cli/test_history_training.py
    "openchat-local adapters",  # tests/app/cli/test_adapters.py and its neighbours
    "openchat-local serve",  # tests/app/server
    "openchat-local doctor --verify",  # tests/app/cli/test_doctor.py, and the next
    "openchat-local doctor --json",
)

# What stands for a file or a repository of the reader's.
STAND_INS = {
    "OWNER/REPOSITORY/FILE.gguf": f"{REPOSITORY}/openchat-3.5-0106.Q4_K_M.gguf",
    "OWNER/REPOSITORY": REPOSITORY,
    "/media/stick/": "stick/",
}


@dataclass(frozen=True)
class Line:
    """A command line of a paper, its comment left out."""

    paper: str
    number: int
    text: str

    @property
    def program(self) -> str:
        return self.text.split()[0]

    def __str__(self) -> str:
        return f"{self.paper}:{self.number}: {self.text}"


def command_lines(paper: str) -> list[Line]:
    """Those in its ```sh blocks."""
    found, shell = [], False
    for number, line in enumerate((ROOT / paper).read_text("utf-8").splitlines(), 1):
        if line.startswith("```"):
            shell = line in ("```sh", "```console")
        elif shell and (text := re.sub(r"\s+#\s.*", "", line).strip()):
            found.append(Line(paper, number, text))
    return found


def is_run(line: Line) -> bool:
    return not line.text.startswith(ELSEWHERE) and not line.program.startswith(OTHERS)


def opens_the_window(line: Line) -> bool:
    words = shlex.split(line.text)
    return words[0] == PROGRAM and (len(words) == 1 or words[1] == "chat" or words[1][0] == "-")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenChat's shape and vocabulary, and nothing learned."""
    return write_model(
        tmp_path_factory.mktemp("tiny") / "tiny.F16.gguf", openchat_vocabulary("control"),
        name="tiny openchat-3.5", context=512, embedding=64, heads=2, kv_heads=1, blocks=1,
        feed_forward=64,
    )  # fmt: skip


@dataclass
class Reader:
    """Somebody with a fresh home, the files that the papers speak of, and a shell."""

    folder: Path
    environment: dict[str, str]

    def run(self, line: Line) -> subprocess.CompletedProcess[str]:
        """The line as it stands, in a shell, with no terminal and nothing to say."""
        text = line.text
        for theirs, ours in STAND_INS.items():
            text = text.replace(theirs, ours)
        if " remove " in text or " delete " in text:
            text += " --yes"  # what a person would answer
        process = subprocess.Popen(
            ["bash", "-c", text], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        if "--minutes" in text:
            self._stop_after_some_steps(process)
        out, error = process.communicate(timeout=240)
        return subprocess.CompletedProcess(text, process.returncode, out, error)

    def _stop_after_some_steps(self, process: subprocess.Popen[str]) -> None:
        """Press Ctrl-C when it has learned something."""
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            metrics = list((self.folder / "home" / "runs").glob("*/metrics.jsonl"))
            if any(path.read_text().count('"learning_rate"') > 3 for path in metrics):
                os.killpg(process.pid, signal.SIGINT)
                return
            time.sleep(0.1)

    def open_window(self, line: Line) -> int:
        """Open the window, wait until it is drawn, and press Ctrl+Q; its exit status."""
        import pty

        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execvpe("bash", ["bash", "-c", f"exec {line.text}"], self.environment)
        drawn, deadline, status = b"", time.monotonic() + 100, None
        pressed = 0.0
        while status is None and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                with suppress(OSError):  # the program has ended
                    drawn += os.read(terminal, 65536)
            # (The cursor stands on the first letter.)
            if b"rite a prompt" in drawn and time.monotonic() > pressed + 2:
                pressed = time.monotonic()
                os.write(terminal, b"\x11")
            ended, code = os.waitpid(pid, os.WNOHANG)
            if ended:
                status = os.waitstatus_to_exitcode(code)
        os.close(terminal)
        assert status is not None, drawn[-2000:]
        assert pressed, drawn[-2000:]
        return status


@pytest.fixture
def reader(tmp_path: Path, tiny: Path, starter_path: Path) -> Iterator[Reader]:
    folder = tmp_path / "clone"
    (folder / "bin").mkdir(parents=True)
    shim = folder / "bin" / PROGRAM
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m openchat_local "$@"\n')
    shim.chmod(0o755)
    for model in ("my.gguf", "stick/openchat-3.5-0106.Q4_K_M.gguf",
                  "models/openchat-3.5-0106.Q4_K_M.gguf",
                  ".lmstudio/models/someone/some/model.Q4_K_M.gguf"):  # fmt: skip
        (folder / model).parent.mkdir(parents=True, exist_ok=True)
        (folder / model).symlink_to(tiny)
    lines = (ROOT / "examples/commit-messages/train.jsonl").read_text("utf-8").splitlines()
    (folder / "mydata.jsonl").write_text("\n".join([*lines[:30], *lines[-30:]]), "utf-8")
    (folder / "held-out.jsonl").write_text("\n".join(lines[40:50]), "utf-8")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True, capture_output=True)
    with fake_hub() as hub:
        hub.repositories[REPOSITORY] = {
            f"openchat-3.5-0106.{type}.gguf": tiny.read_bytes() for type in ("Q4_K_M", "Q5_K_M")
        }
        environment = os.environ | hub.environment() | {
            "HOME": str(folder),
            "HF_HOME": str(folder / "hf"),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "SHELL": "/bin/bash",
            "COLUMNS": "120",
            "LINES": "40",
            "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
            "OPENCHAT_LOCAL_HOME": str(folder / "home"),
            "OPENCHAT_LOCAL_SAMPLING__MAX_TOKENS": "16",
        }  # fmt: skip
        yield Reader(folder, environment)


@pytest.mark.skipif(os.name == "nt", reason="the papers' shell is a POSIX one")
@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_line_works(paper: str, reader: Reader, tiny: Path) -> None:
    for line in filter(is_run, command_lines(paper)):
        if "finetune" in line.text or "--adapter mine" in line.text:
            # What is taught is a model that learns in seconds.
            reader.environment["OPENCHAT_LOCAL_MODEL"] = str(tiny)
        if "--adapter mine" in line.text:
            _teach(reader, tiny)
        if opens_the_window(line):
            assert reader.open_window(line) == 0, str(line)
        else:
            done = reader.run(line)
            # JSON of so few tokens is cut, which is said and no success.
            expected = (0, 1) if "--json-schema" in line.text else (0,)
            assert done.returncode in expected, f"{line}\n{done.stderr}"


def _teach(reader: Reader, tiny: Path) -> None:
    """An adapter `mine`, if no earlier line of the paper has trained it."""
    if (reader.folder / "home" / "adapters" / "mine").exists():
        return
    write_random_adapter(reader.folder / "home" / "adapters" / "mine" / "adapter.gguf", tiny)


@pytest.mark.parametrize("paper", PAPERS)
def test_what_is_run_elsewhere_has_options_that_exist(paper: str) -> None:
    for line in command_lines(paper):
        words = shlex.split(line.text)
        if PROGRAM in words[:1] and not is_run(line):
            _parse(words[1:])
        elif "openchat_local" in words:
            _parse(words[words.index("openchat_local") + 1 :])


def _parse(words: list[str]) -> None:
    command: click.Command = cli
    # Under the names of the program's own help option: click remembers the first it makes.
    context = click.Context(cli, info_name=PROGRAM, **cli.context_settings)
    while isinstance(command, click.Group):
        name = words[0] if words and words[0] in command.list_commands(context) else "train"
        words = words[1:] if words[:1] == [name] else words
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
        if isinstance(command, click.Group):
            context = click.Context(command, parent=context, info_name=name)
    command.make_context(command.name, list(words), parent=context)


def test_every_line_is_run_or_has_a_reason() -> None:
    lines = [line for paper in PAPERS for line in command_lines(paper)]
    assert len(lines) > 30
    ours = ("openchat-local", "git", "echo", "eval", "python", "cat")
    for line in lines:
        assert line.program in ours or line.program.startswith(OTHERS), str(line)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for line in lines:
        if line.program == "make":
            target = line.text.split()[1]
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), str(line)
