"""Settings written from within the program: one value changes and nothing else."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.settings.file import write_setting
from openchat_local.app.settings.layers import SettingsError
from openchat_local.app.settings.model import load_settings

FILE = """\
# how I like it
model = "starter"   # the small one

[sampling]
top_k = 3  # few
# temperature = 0.1

[tui]
theme = "nord"
"""


def test_one_value_changes_and_every_comment_stays(home: Path) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text(FILE, encoding="utf-8")
    write_setting(file, ("sampling", "top_k"), 7)
    assert file.read_text(encoding="utf-8") == FILE.replace("top_k = 3", "top_k = 7")
    write_setting(file, ("sampling", "top_k"), 3)
    write_setting(file, ("tui", "enter"), "newline")
    assert file.read_text(encoding="utf-8") == FILE + 'enter = "newline"\n'
    write_setting(file, ("tui", "enter"), None)
    assert file.read_text(encoding="utf-8") == FILE


def test_a_file_and_its_sections_are_made_when_there_are_none(home: Path) -> None:
    file = home / "config.toml"
    write_setting(file, ("tui", "theme"), "nord")
    write_setting(file, ("context",), 2048)
    preset = {"sampling": {"temperature": 0.5}, "system_prompt": 'Say "hi"\n\x1b'}
    write_setting(file, ("presets", "my own"), preset)
    write_setting(file, ("presets", "other"), {"condition": ""})
    settings = load_settings()
    assert (settings.tui.theme, settings.context) == ("nord", 2048)
    assert settings.presets["my own"].as_fields() == preset
    assert settings.presets["other"].as_fields() == {"condition": ""}


def test_a_broken_file_is_left_alone(home: Path) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text("model = \n", encoding="utf-8")
    with pytest.raises(SettingsError, match="correct it first"):
        write_setting(file, ("context",), 1)
    assert file.read_text(encoding="utf-8") == "model = \n"


def test_a_link_to_the_file_stays_a_link(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    real = tmp_path / "dotfiles.toml"
    real.write_text("context = 1\n", encoding="utf-8")
    (home / "config.toml").symlink_to(real)
    write_setting(home / "config.toml", ("context",), 2)
    assert (home / "config.toml").is_symlink()
    assert real.read_text(encoding="utf-8") == "context = 2\n"


def test_a_folder_in_the_way_is_one_sentence(home: Path) -> None:
    (home / "config.toml").mkdir(parents=True)
    with pytest.raises(SettingsError, match="cannot be written"):
        write_setting(home / "config.toml", ("context",), 1)


@given(name=st.text(min_size=1), value=st.text())
def test_any_text_comes_back_as_it_went(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str
) -> None:
    file = tmp_path_factory.mktemp("settings") / "config.toml"
    write_setting(file, ("presets", name), {"system_prompt": value})
    assert tomllib.loads(file.read_text(encoding="utf-8")) == {
        "presets": {name: {"system_prompt": value}}
    }
