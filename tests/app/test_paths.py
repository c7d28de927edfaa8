"""The data home: private, created late, and clear about what is wrong with it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from openchat_local.app.paths import (
    HomeError,
    config_path,
    data_home,
    ensure_home,
    log_path,
    states_dir,
)

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")


def fault() -> str:
    with pytest.raises(HomeError) as error:
        ensure_home()
    message = str(error.value)
    assert "\n" not in message
    assert "OPENCHAT_LOCAL_HOME" in message
    return message


def test_the_override_moves_everything_and_creates_nothing(home: Path) -> None:
    assert data_home() == home
    for path in (config_path(), log_path(), states_dir()):
        assert path.is_relative_to(home)
    assert not home.exists()


def test_without_the_override_the_platform_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENCHAT_LOCAL_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert data_home().name == "openchat-local"
    assert config_path().name == "config.toml"
    if os.name == "posix":
        assert data_home().is_relative_to(tmp_path)
        assert config_path().is_relative_to(tmp_path)


def test_a_relative_or_tilde_override_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENCHAT_LOCAL_HOME", "here")
    assert data_home() == tmp_path / "here"
    monkeypatch.setenv("OPENCHAT_LOCAL_HOME", "~/there")
    assert data_home() == Path.home() / "there"


@posix
def test_a_new_home_is_private(home: Path) -> None:
    assert ensure_home() == home
    assert home.stat().st_mode & 0o777 == 0o700


@posix
def test_an_open_home_is_made_private(home: Path) -> None:
    home.mkdir(mode=0o755)
    ensure_home()
    assert home.stat().st_mode & 0o777 == 0o700


@posix
def test_a_folder_that_users_share_is_refused_and_left_as_it_is(home: Path) -> None:
    home.mkdir()
    home.chmod(0o1777)
    assert "shared between users" in fault()
    assert home.stat().st_mode & 0o7777 == 0o1777


def test_a_file_in_place_of_the_home_is_told(home: Path) -> None:
    home.write_text("")
    assert f"{home} (or a folder above it) is a file" in fault()


def test_a_file_above_the_home_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("")
    monkeypatch.setenv("OPENCHAT_LOCAL_HOME", str(home / "inside"))
    assert "is a file" in fault()


@posix
@pytest.mark.parametrize(("below", "says"), [("", "read-only"), ("new", "Permission denied")])
def test_a_home_that_cannot_be_written_is_told(
    monkeypatch: pytest.MonkeyPatch, below: str, says: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        monkeypatch.setenv("OPENCHAT_LOCAL_HOME", str(Path(folder) / below))
        assert says in message_for_an_unprivileged_user()


def message_for_an_unprivileged_user() -> str:
    """What `ensure_home` raises in a child that is not root, whom no mode bits stop."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            ensure_home()
        except HomeError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()
