"""Settings: which source wins, and how each kind of fault is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.settings.layers import leaves, line_of
from openchat_local.app.settings.model import (
    Settings,
    SettingsError,
    load_settings,
    load_settings_with_sources,
)
from openchat_local.models.engine.protocol import Sampling


def write(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    file = home / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def fault(overrides: dict[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as error:
        load_settings(overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_any_source_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings.model == "starter"
    assert settings.condition is None
    assert settings.sampling.as_sampling() == Sampling(max_tokens=2048)
    assert settings.kv.budget_bytes == 2 * 1024**3


def test_flags_beat_the_environment_beats_the_file_beats_the_defaults(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, 'model = "file"\ncontext = 1\n[sampling]\ntop_k = 1\ntop_p = 0.1\nseed = 1\n')
    monkeypatch.setenv("OPENCHAT_LOCAL_CONTEXT", "2")
    monkeypatch.setenv("OPENCHAT_LOCAL_SAMPLING__TOP_P", "0.2")
    monkeypatch.setenv("OPENCHAT_LOCAL_SAMPLING__SEED", "2")
    settings, sources = load_settings_with_sources({"sampling": {"seed": 3}})
    assert (settings.model, sources["model"]) == ("file", "file")
    assert (settings.context, sources["context"]) == (2, "environment")
    assert (settings.sampling.top_k, sources["sampling.top_k"]) == (1, "file")
    assert (settings.sampling.top_p, sources["sampling.top_p"]) == (0.2, "environment")
    assert (settings.sampling.seed, sources["sampling.seed"]) == (3, "flag")
    assert (settings.sampling.min_p, sources["sampling.min_p"]) == (0.05, "default")


def test_a_flag_that_is_none_was_not_given(home: Path) -> None:
    write(home, "[sampling]\nseed = 1\n")
    settings, sources = load_settings_with_sources({"model": None, "sampling": {"seed": None}})
    assert (settings.sampling.seed, sources["sampling.seed"]) == (1, "file")
    assert sources["model"] == "default"


def test_an_empty_condition_is_not_the_default_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_CONDITION", "")
    assert load_settings().condition == ""
    assert load_settings({"condition": "Code"}).condition == "Code"


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("# x\n\ntop_k = 3\n", 3, "top_k", "is not a setting"),
        ("[sampling]\n\ntemprature = 1\n", 3, "sampling.temprature", "temperature"),
        ("[sampling]\ntop_p = 1.5\n", 2, "sampling.top_p", "a number above 0 and up to 1"),
        (
            "sampling.top_k = 'many'\n",
            1,
            "sampling.top_k",
            "it is a whole number from 0 to 2,147,483,647",
        ),
        ("context = true\n", 1, "context", "cannot be true: it is a whole number"),
        ("[sampling]\ntemperature = nan\n", 2, "sampling.temperature", "a number from 0 to 10"),
        ('kv = { budget_gib = "x" }\n', 1, "kv.budget_gib", "a number from 0 to 1,000,000"),
        ("\n[colours]\nred = 1\n", 2, "colours", "is not a setting"),
        ("sampling.seed = 4294967296\n", 1, "sampling.seed", "from 0 to 4,294,967,295"),
        ('tui.enter = "up"\n', 1, "tui.enter", "it is 'send' or 'newline'"),
        ("kv.enabled = 3\n", 1, "kv.enabled", "it is true or false"),
        ('presets.a.sampling.top_k = "x"\n', 1, "presets.a.sampling.top_k", "a whole number"),
        ("sampling = 3\n", 1, "sampling", "section"),
        ('template = ""\n', 1, "template", "a text that is not empty"),
        ("system_prompt = 7\n", 1, "system_prompt", "it is a text;"),
    ],
)
def test_a_fault_in_the_file_names_file_line_key_and_what_is_allowed(
    home: Path, text: str, line: int, key: str, says: str
) -> None:
    file = write(home, text)
    message = fault()
    assert message.startswith(f"{file}, line {line}, {key} ")
    assert says in message


def test_broken_toml_names_the_line(home: Path) -> None:
    file = write(home, "model = \n")
    assert str(file) in fault()
    assert "line 1" in fault()


def test_a_file_that_is_not_utf8_names_the_byte(home: Path) -> None:
    write(home, "").write_bytes(b'model = "\xff"')
    assert "not UTF-8 (byte 9)" in fault()


def test_a_folder_in_place_of_the_file_is_told(home: Path) -> None:
    (home / "config.toml").mkdir(parents=True)
    assert "Cannot read the settings file" in fault()


def test_a_byte_order_mark_is_no_fault(home: Path) -> None:
    write(home, "").write_bytes(b'\xef\xbb\xbfmodel = "x"')
    assert load_settings().model == "x"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OPENCHAT_LOCAL_THREADS", "many", "OPENCHAT_LOCAL_THREADS cannot be 'many'"),
        ("OPENCHAT_LOCAL_MODLE", "x", "OPENCHAT_LOCAL_MODLE is not a setting"),
        ("OPENCHAT_LOCAL_SAMPLING__SED", "1", "OPENCHAT_LOCAL_SAMPLING__SED is not a setting"),
        ("OPENCHAT_LOCAL_SAMPLING", "{", "OPENCHAT_LOCAL_SAMPLING__TEMPERATURE=0.2"),
        ("OPENCHAT_LOCAL_SAMPLING", "5", "OPENCHAT_LOCAL_SAMPLING cannot be '5'"),
        ("OPENCHAT_LOCAL_MODEL__PATH", "x", "OPENCHAT_LOCAL_MODEL cannot be"),
        ("OPENCHAT_LOCAL_KV__ENABLED", "perhaps", "OPENCHAT_LOCAL_KV__ENABLED cannot be"),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_MODEL", "starter")
    monkeypatch.setenv(variable, value)
    assert says in fault()


def test_a_section_is_set_as_json_and_the_variable_of_a_key_comes_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_SAMPLING__TOP_K", "7")
    monkeypatch.setenv("OPENCHAT_LOCAL_SAMPLING", '{"top_k": 3, "seed": 4}')
    monkeypatch.setenv("OPENCHAT_LOCAL_PRESETS__MINE__SAMPLING", '{"temperature": 0.5}')
    monkeypatch.setenv("OPENCHAT_LOCAL_KEYS__CHAT.NEW", "f6")
    settings = load_settings()
    assert (settings.sampling.top_k, settings.sampling.seed) == (7, 4)
    assert settings.presets["mine"].sampling.temperature == 0.5
    assert settings.keys == {"chat.new": "f6"}


def test_a_fault_in_a_flag_names_the_flag() -> None:
    assert fault({"gpu_layers": -2}).startswith("--gpu-layers cannot be -2")
    assert fault({"sampling": {"max_tokens": -1}}).startswith("--max-tokens cannot be -1")


def test_a_fault_is_told_even_where_another_source_replaces_it(home: Path) -> None:
    write(home, "context = -1\n")
    assert "line 1, context" in fault({"context": 5})


def test_keeping_no_states_leaves_no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCHAT_LOCAL_KV__ENABLED", "no")
    assert load_settings().kv.budget_bytes == 0


def test_every_setting_says_what_it_is() -> None:
    sections: list[type] = [Settings]
    for section in sections:
        for name, field in section.model_fields.items():  # type: ignore[attr-defined]
            assert field.description, name
            assert field.description.endswith("."), name
            if hasattr(field.annotation, "model_fields"):
                sections.append(field.annotation)


def test_the_manual_lists_every_setting_and_its_default() -> None:
    manual = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
    for key, value in leaves(Settings().model_dump()):
        shown = "unset" if value is None else f"`{str(value).lower() if value is True else value}`"
        section: type = Settings
        for part in key[:-1]:
            section = section.model_fields[part].annotation  # type: ignore[attr-defined]
        description = section.model_fields[key[-1]].description  # type: ignore[attr-defined]
        shown = "empty" if value == "" else shown
        assert f"| `{'.'.join(key)}` | {shown} | {description} |" in manual


@given(st.text())
def test_looking_for_a_line_never_fails(text: str) -> None:
    assert line_of(text, ("sampling", "seed")) in {None, *range(1, len(text.splitlines()) + 1)}


def test_a_reply_has_a_limit_that_can_be_lifted() -> None:
    assert load_settings({}).sampling.as_sampling().max_tokens == 2048
    lifted = load_settings({"sampling": {"max_tokens": 0}}).sampling.as_sampling()
    assert lifted.max_tokens is None
