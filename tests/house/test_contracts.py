"""The arrows between the rooms hold, and the contracts notice when one does not."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pytest


def lint_imports(package: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("lint-imports")),
            *("--config", str(repository / "pyproject.toml"), "--no-cache"),
        ],
        cwd=package.parent,
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_contracts_hold(package_copy: Path, repository: Path) -> None:
    done = lint_imports(package_copy, repository)
    assert done.returncode == 0, done.stdout + done.stderr


ARROWS = "Arrows point one way: app, finetune, models"
TEXTUAL = "Only the chat window knows Textual"
LLAMA_CPP = "Only the engine, the vocabulary and what reads packed rows know llama.cpp"
MLX = "Only its backend knows MLX"
TORCH = "Only its backend knows torch"
PYARROW = "Only what reads columns knows pyarrow"
MATPLOTLIB = "Only pictures know matplotlib"
PDFIUM = "Only the child that reads documents knows PDFium"
HTTP = "Only the server knows HTTP servers"
OPENAI = "Only the remote engine knows OpenAI's client"
HEADLESS = "The server knows no command line"
APART = "The command line and the window are apart, but that `chat` opens the window"
APP = "In app, what a person touches uses replies and settings, and these the chats"
MODELS = "In models, the engine and the hub use the library, and all of them the files"
DECODING = "Only the engine's child decodes"
CIRCLES = "No circles"
FINETUNE = "Evaluation uses runs, a run uses backends, a backend uses adapters and batches"
WINDOW = "The screen uses the chat, which asks questions; all show widgets and replies"
BENEATH = "The session, the keys and what comes from threads know nothing on the screen"
MARKDOWN = "What a reply looks like is worked out without a screen"

# A contract, a file of the package, and what it must not say.
WRONG = [
    (ARROWS, "models/names.py", "import openchat_local.app.paths"),
    (ARROWS, "models/library/store.py", "import openchat_local.finetune"),
    (ARROWS, "finetune/__init__.py", "def f():\n    import openchat_local.app.settings"),
    (TEXTUAL, "app/cli/main.py", "def f():\n    from textual.app import App"),
    (LLAMA_CPP, "app/paths.py", "import llama_cpp"),
    (MLX, "finetune/lora.py", "import mlx.core"),
    (TORCH, "finetune/lora.py", "import torch"),
    (PYARROW, "finetune/lora.py", "def f():\n    import pyarrow.parquet"),
    (MATPLOTLIB, "finetune/lora.py", "def f():\n    from matplotlib.figure import Figure"),
    (PDFIUM, "app/documents/child.py", "def f():\n    import pypdfium2"),
    (HTTP, "app/cli/serve.py", "def f():\n    import uvicorn"),
    (OPENAI, "models/engine/local.py", "def f():\n    import openai"),
    (HEADLESS, "app/server/places.py", "import click"),
    (APART, "app/tui/loader.py", "def f():\n    from openchat_local.app.cli import options"),
    (APART, "app/cli/ask.py", "import openchat_local.app.tui.dates"),
    (APP, "app/printable.py", "import openchat_local.app.settings.words"),
    (APP, "app/chats/store.py", "import openchat_local.app.engine"),
    (APP, "app/engine.py", "def f():\n    import openchat_local.app.replies.stream"),
    (APP, "app/doctor/home.py", "import openchat_local.app.bundle.errors"),
    (MODELS, "models/library/store.py", "import openchat_local.models.hub.client"),
    (MODELS, "models/hub/pull.py", "def f():\n    import openchat_local.models.engine.local"),
    (MODELS, "models/gguf/file.py", "import openchat_local.models.memory"),
    (DECODING, "models/engine/local.py",
     "def f():\n    import openchat_local.models.engine.decoding.reply"),
    (CIRCLES, "app/chats/errors.py", "import openchat_local.app.chats.store"),
    (CIRCLES, "app/settings/words.py",
     "def f():\n    from openchat_local.app.settings import layers"),
    (CIRCLES, "models/engine/protocol.py", "import openchat_local.models.engine.local"),
    (CIRCLES, "models/gguf/header.py",
     "if TYPE_CHECKING:\n    from openchat_local.models.gguf.file import GGUFFile"),
    (FINETUNE, "finetune/adapter/lora.py", "import openchat_local.finetune.backends.choose"),
    (FINETUNE, "finetune/data/rows.py", "import openchat_local.finetune.adapter.lora"),
    (FINETUNE, "finetune/backends/memory.py",
     "def f():\n    import openchat_local.finetune.run.shortage"),
    (FINETUNE, "finetune/run/answers.py",
     "def f():\n    import openchat_local.finetune.evaluation.rows"),
    (CIRCLES, "finetune/data/policy.py",
     "def f():\n    from openchat_local.finetune.data import prepare"),
    (CIRCLES, "finetune/run/settings.py", "import openchat_local.finetune.run.plan"),
    (APART, "app/tui/dates.py", "def f():\n    import openchat_local.app.cli.options"),
    (WINDOW, "app/tui/chat/meter.py",
     "def f():\n    import openchat_local.app.tui.screens.search"),
    (WINDOW, "app/tui/questions/line.py", "import openchat_local.app.tui.chat.labels"),
    (WINDOW, "app/tui/widgets/notice.py",
     "def f():\n    from openchat_local.app.tui.questions import line"),
    (BENEATH, "app/tui/keys.py", "def f():\n    import openchat_local.app.tui.widgets.notice"),
    (BENEATH, "app/tui/session.py", "import openchat_local.app.tui.chat.context"),
    (CIRCLES, "app/tui/chat/drafts.py", "import openchat_local.app.tui.chat.chats"),
    (MARKDOWN, "app/tui/markdown/rows.py", "def f():\n    from textual.strip import Strip"),
    (MARKDOWN, "app/tui/markdown/rows.py", "import openchat_local.app.tui.chat.drafts"),
]  # fmt: skip


# Reading the imports takes seconds: the first wrong statement of every contract goes into one
# copy, the second into another; circles apart, since an arrow that points back makes one too.
_SEEN = Counter[str]()
ROUNDS: dict[tuple[bool, int], list[tuple[str, str, str]]] = defaultdict(list)
for one in WRONG:
    ROUNDS[one[0] == CIRCLES, _SEEN[one[0]]].append(one)
    _SEEN[one[0]] += 1


@pytest.mark.parametrize("wrong", ROUNDS.values(), ids=map(str, ROUNDS))
def test_the_contracts_notice(
    package_copy: Path, repository: Path, wrong: list[tuple[str, str, str]]
) -> None:
    for _, file, statement in wrong:
        with (package_copy / file).open("a") as module:
            module.write(f"\n{statement}\n")
    done = lint_imports(package_copy, repository)
    assert done.returncode == 1
    for contract, file, _ in wrong:
        assert f"{contract} BROKEN" in done.stdout
        if contract == CIRCLES:  # whose report may name any part of the circle
            continue
        reported = done.stdout.rpartition(f"\n{contract}\n")[2]
        module_name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        assert f"openchat_local.{module_name}" in reported, contract


def test_each_contract_is_seen_to_notice(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    assert {one["name"] for one in contracts} == {contract for contract, _, _ in WRONG}
