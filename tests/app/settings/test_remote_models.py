"""Which words name a model of another program, and how that is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_local.app.engine import engine_for, model_path
from openchat_local.app.settings.engines import NamedEngine
from openchat_local.app.settings.model import Settings, SettingsError, load_settings
from openchat_local.app.settings.remote_models import (
    EngineNameError,
    RemoteModel,
    remote_model,
    remote_options,
    with_engine,
)
from openchat_local.models.errors import ModelFileError

FILE = """
[engines.openai]
url = "https://api.openai.com/v1"
model = "gpt-4o"
api_key_env = "OPENAI_API_KEY"

[engines.box]
url = "http://box:8000"
context = 32768

[engines.broken]
model = "none"
"""


@pytest.fixture
def settings(home: Path) -> Settings:
    home.mkdir()
    (home / "config.toml").write_text(FILE)
    return load_settings()


@pytest.mark.parametrize(
    ("words", "model", "engine"),
    [
        ("gpt-4o@openai", "gpt-4o", "openai"),
        ("@openai", "", "openai"),
        ("meta-llama/Llama-3-8B@box", "meta-llama/Llama-3-8B", "box"),
        ("starter:mine@127.0.0.1:8080", "starter:mine", "127.0.0.1:8080"),
        ("x@https://api.example.com/v1", "x", "https://api.example.com/v1"),
        ("x@https://example.com/@me/v1", "x", "https://example.com/@me/v1"),
        ("gpt-4o@nobody", "gpt-4o", "nobody"),
    ],
)
def test_a_model_of_another_program_is_told_by_its_engine(
    settings: Settings, words: str, model: str, engine: str
) -> None:
    assert remote_model(words, settings.engines) == RemoteModel(model, engine)


@pytest.mark.parametrize("words", ["starter", "models/a@b/c.gguf", "openchat-3.5:Q4_K_M"])
def test_other_words_name_a_model_of_this_machine(settings: Settings, words: str) -> None:
    assert remote_model(words, settings.engines) is None


def test_a_file_is_a_file_whatever_its_name(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt-4o@openai").touch()
    assert remote_model("gpt-4o@openai", settings.engines) is None


def test_a_named_engine_is_asked_as_the_file_says(settings: Settings) -> None:
    options = remote_options(settings.model_copy(update={"model": "@openai"}))
    assert options is not None
    assert options.address.base == "https://api.openai.com/v1"
    assert (options.label, options.model) == ("openai", "gpt-4o")
    assert options.key_name == "OPENAI_API_KEY"
    other = remote_options(settings.model_copy(update={"model": "big@box"}))
    assert other is not None
    assert (other.address.base, other.model, other.context) == ("http://box:8000/v1", "big", 32768)
    assert remote_options(settings) is None


def test_flags_name_an_engine_for_this_call_alone(settings: Settings, home: Path) -> None:
    url = "http://127.0.0.1:8080/v1"
    now = load_settings(with_engine(url, "starter", "MY_KEY", 4096))
    options = remote_options(now)
    assert options is not None
    assert (options.label, options.model) == ("127.0.0.1:8080", "starter")
    assert (options.key_name, options.context) == ("MY_KEY", 4096)
    named = remote_options(load_settings(with_engine("box", None, "MY_KEY", None)))
    assert named is not None
    assert (named.address.host, named.key_name, named.context) == ("box", "MY_KEY", 32768)
    assert (home / "config.toml").read_text() == FILE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gpt@nobody", "no engine 'nobody' in the settings: there are box, openai"),
        ("@broken", r"has no URL: set url under \[engines.broken\]"),
    ],
)
def test_an_engine_that_is_not_there_is_told(settings: Settings, words: str, said: str) -> None:
    with pytest.raises(EngineNameError, match=said):
        engine_for(settings.model_copy(update={"model": words}))


def test_what_needs_a_file_says_so() -> None:
    with pytest.raises(ModelFileError, match="gpt-4o@openai is a model of a remote engine"):
        model_path("gpt-4o@openai")


def test_a_key_in_the_file_is_no_setting(home: Path) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text('[engines.openai]\napi_key = "sk-secret"\n')
    with pytest.raises(SettingsError, match="line 2") as refused:
        load_settings()
    assert "api_key_env" in str(refused.value)
    assert "sk-secret" not in str(refused.value)


def test_every_setting_of_an_engine_says_what_it_is() -> None:
    for name, field in NamedEngine.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
