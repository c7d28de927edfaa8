"""The arrows between the rooms hold, and the contracts notice when one does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("models/names.py", "import openchat_local.app.paths"),
        ("models/library/store.py", "import openchat_local.finetune"),
        ("finetune/__init__.py", "def f():\n    import openchat_local.app.settings"),
        ("app/cli/main.py", "def f():\n    from textual.app import App"),
        ("app/paths.py", "import llama_cpp"),
        ("finetune/lora.py", "import mlx.core"),
        ("finetune/lora.py", "import torch"),
        ("app/tui/markdown/rows.py", "def f():\n    from textual.strip import Strip"),
        ("app/tui/markdown/rows.py", "import openchat_local.app.tui.chat.drafts"),
    ],
)
def test_the_contracts_notice(
    package_copy: Path, repository: Path, file: str, statement: str
) -> None:
    with (package_copy / file).open("a") as module:
        module.write(f"\n{statement}\n")
    done = lint_imports(package_copy, repository)
    assert done.returncode == 1
    assert re.search(r"Contracts: \d+ kept, 1 broken", done.stdout)


LAYERS = "A run uses backends, a backend uses adapters and batches, never the other way"
CIRCLES = "No circles in finetune"


@pytest.mark.parametrize(
    ("file", "statement", "broken"),
    [
        ("finetune/adapter/lora.py", "import openchat_local.finetune.backends.choose", LAYERS),
        ("finetune/data/rows.py", "import openchat_local.finetune.adapter.lora", LAYERS),
        (
            "finetune/backends/memory.py",
            "def f():\n    import openchat_local.finetune.run.shortage",
            LAYERS,
        ),
        (
            "finetune/data/policy.py",
            "def f():\n    from openchat_local.finetune.data import prepare",
            CIRCLES,
        ),
        ("finetune/run/settings.py", "import openchat_local.finetune.run.plan", CIRCLES),
    ],
)
def test_the_contracts_of_finetune_notice(
    package_copy: Path, repository: Path, file: str, statement: str, broken: str
) -> None:
    with (package_copy / file).open("a") as module:
        module.write(f"\n{statement}\n")
    done = lint_imports(package_copy, repository)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout
