"""`openchat-local config`, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from openchat_local.app.settings.layers import leaves
from openchat_local.app.settings.model import Settings


def config(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "openchat_local", "config", command],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_path_prints_the_settings_file_and_creates_nothing(home: Path) -> None:
    done = config("path")
    assert done.stdout == f"{home / 'config.toml'}\n"
    assert not home.exists()


def test_show_is_toml_that_says_the_same_again(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text(
        'system_prompt = "a \\"b\\" \\\\ \\u0007\\u007f\\u009b 汉字"\nsampling.seed = 7\n',
        encoding="utf-8",
    )
    shown = config("show").stdout
    assert "\x9b" not in shown
    values = dict(leaves(tomllib.loads(shown)))
    expected = dict(leaves(Settings().model_dump(exclude_none=True)))
    assert values == expected | {
        ("system_prompt",): 'a "b" \\ \x07\x7f\x9b 汉字',
        ("sampling", "seed"): 7,
    }


def test_show_names_the_source_of_each_value(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / "config.toml").write_text("threads = 3\n")
    monkeypatch.setenv("OPENCHAT_LOCAL_KV__BUDGET_GIB", "0.5")
    sources = {}
    for line in config("show").stdout.splitlines():
        setting, source = line.rsplit("# ", 1)
        sources[setting.strip()] = source
    assert sources["threads = 3"] == "file"
    assert sources["kv.budget_gib = 0.5"] == "environment"
    assert sources["context = 0"] == "default"
    assert sources["# template is unset"] == "default"


def test_a_fault_exits_with_1_and_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_THREADS", "many")
    done = config("show")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("openchat-local: OPENCHAT_LOCAL_THREADS cannot be 'many'")
    assert done.stderr.count("\n") == 1


def test_show_lists_what_a_preset_sets_and_nothing_else_of_it(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text(
        '[presets."Careful one"]\nsystem_prompt = "Be careful."\nsampling.temperature = 0.2\n'
        "[presets.empty]\n"
    )
    done = config("show")
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line for line in done.stdout.splitlines() if "presets" in line]
    assert [line.split("#")[0].strip() for line in shown] == [
        'presets."Careful one".system_prompt = "Be careful."',
        'presets."Careful one".sampling.temperature = 0.2',
    ]
    assert all(line.endswith("# file") for line in shown)
