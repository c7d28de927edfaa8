"""Where this program keeps things. Nothing is created before `ensure_home` is called.

Chats, KV states, models and the log live in one private folder, the data home.
`OPENCHAT_LOCAL_HOME` moves that folder and the settings file with it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from openchat_local.models.errors import OpenChatError

APP_NAME = "openchat-local"
HOME_VARIABLE = "OPENCHAT_LOCAL_HOME"


class HomeError(OpenChatError):
    """The data home cannot be created or written."""


def data_home() -> Path:
    """The private folder of chats, models and states: absolute, perhaps not yet there."""
    if override := _home_override():
        return override
    from platformdirs import user_data_path

    return user_data_path(APP_NAME, appauthor=False)


def config_path() -> Path:
    """The TOML settings file, which need not exist."""
    if override := _home_override():
        return override / "config.toml"
    from platformdirs import user_config_path

    return user_config_path(APP_NAME, appauthor=False) / "config.toml"


def log_path() -> Path:
    """The file that tracebacks of bugs are appended to."""
    return data_home() / "openchat-local.log"


def web_key_path() -> Path:
    """The file with the key of the window in a browser."""
    return data_home() / "web-key"


def states_dir() -> Path:
    """The folder of KV states, one private file for each chat that has one."""
    return data_home() / "states"


def findings_path() -> Path:
    """What engines found out about this machine, as JSON; it may go at any time."""
    return data_home() / "machine.json"


def adapters_dir() -> Path:
    """The folder of installed adapters, one folder each."""
    return data_home() / "adapters"


def models_dir() -> Path:
    """The folder of installed models, one folder each."""
    return data_home() / "models"


def ensure_home() -> Path:
    """Create the data home if need be, readable by its owner alone, and return it.

    Raises HomeError if it is not a folder, cannot be created, or cannot be written.
    """
    home = data_home()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _keep_private(home)
    except (FileExistsError, NotADirectoryError):
        raise HomeError(
            f"{home} (or a folder above it) is a file; move it away, {_choose_another()}."
        ) from None
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise HomeError(
            f"Cannot prepare the data folder {home}: {reason}; make room or make it "
            f"writable, {_choose_another()}."
        ) from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise HomeError(
            f"The data folder {home} is read-only; make it writable, {_choose_another()}."
        )
    return home


def _home_override() -> Path | None:
    value = os.environ.get(HOME_VARIABLE)
    return Path(value).expanduser().absolute() if value else None


def _choose_another() -> str:
    return f"or set {HOME_VARIABLE} to another folder"


def _keep_private(home: Path) -> None:
    # Windows has no mode bits to set: a folder under the user's profile inherits an
    # access list that shuts other users out.
    if os.name == "nt":
        return
    status = home.stat()
    if status.st_mode & stat.S_ISVTX:
        raise HomeError(
            f"{home} is shared between users and would show them your chats; "
            f"set {HOME_VARIABLE} to a folder of your own."
        )
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        home.chmod(0o700)
