"""What a start-up may import, seen in a fresh interpreter's `sys.modules`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CLI = Path(__file__).parents[2] / "app" / "cli"
COMMAND_MODULES = sorted(
    f"openchat_local.app.cli.{file.stem}" for file in CLI.glob("*.py") if file.stem != "__init__"
)
HEAVY = {"httpx2", "huggingface_hub", "jinja2", "llama_cpp", "llguidance", "mlx", "numpy", "peft",
         "plotille", "pypdfium2", "starlette", "textual", "torch", "transformers",
         "uvicorn"}  # fmt: skip


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def heavy_after_each() -> dict[str, set[str]]:
    """The heavy modules that one fresh interpreter holds after each of the commands, which it
    imports one after the other: what any of them imports it holds from then on."""
    code = (
        "import importlib, json, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    print(json.dumps([name, sorted({m.split('.')[0] for m in sys.modules})]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *COMMAND_MODULES],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return {name: HEAVY & {*held} for name, held in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("module", COMMAND_MODULES)
def test_importing_a_command_imports_nothing_heavy(
    heavy_after_each: dict[str, set[str]], module: str
) -> None:
    assert heavy_after_each[module] == set()


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_version_and_help_need_neither_pydantic_nor_a_command(arguments: list[str]) -> None:
    modules = modules_after(
        f"from openchat_local.app.cli.main import main\nassert main({arguments!r}) == 0\n"
        "import sys; loaded = [m for m in sys.modules if m.startswith('openchat_local.app.cli.')]\n"
        "assert loaded == ['openchat_local.app.cli.main'], loaded"
    )
    assert not modules & (HEAVY | {"pydantic", "platformdirs", "sqlite3"})


def test_every_command_of_the_table_exists_under_its_name() -> None:
    from openchat_local.app.cli.main import COMMANDS, LazyGroup, cli

    assert isinstance(cli, LazyGroup)
    import click

    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_training_with_mlx_waits_for_neither_torch_nor_what_generates() -> None:
    modules = modules_after("import openchat_local.finetune.backends.mlx.trainer")
    assert "mlx" in modules
    assert not modules & {"mistral_common", "mlx_lm", "tokenizers", "torch", "transformers"}


def test_what_is_imported_without_its_package_leaves_the_package_to_others() -> None:
    modules = modules_after(
        "from openchat_local.models.system.one_module import one_module\n"
        "quants = one_module('gguf.quants')\n"
        "import gguf, gguf.quants\n"
        "assert gguf.GGUFWriter\n"
        "assert gguf.quants is not quants\n"
        "assert gguf.quants.GGMLQuantizationType.Q4_0 == quants.GGMLQuantizationType.Q4_0"
    )
    assert "gguf" in modules


def test_the_window_starts_without_the_store_and_without_what_only_training_needs() -> None:
    code = "import sys, openchat_local.app.tui.app; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    modules = done.stdout.split()
    assert "openchat_local.app.tui.screens.learn" in modules
    assert not (HEAVY - {"textual"} | {"sqlite3"}) & {*modules}
    rooms = (
        "app.learning.versions", "app.evaluations", "finetune.data", "finetune.evaluation",
        "models.template",
    )  # fmt: skip
    kept_out = tuple(f"openchat_local.{room}" for room in rooms)
    assert [module for module in modules if module.startswith(kept_out)] == []
