"""What trains, where nothing of it is installed yet: what there is, and installing it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import own_process_group
from openchat_local.models.system.installing import install_command, installer


class InstallError(OpenChatError):
    """What trains could not be installed."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A backend that can be installed, as an extra of this program. `size` is in words."""

    name: str
    requirement: str
    size: str

    @property
    def command(self) -> str:
        """What a person writes to install it."""
        return install_command(self.requirement)


def extras() -> list[Extra]:
    """What can be installed, what suits this machine best first."""
    from openchat_local.finetune.backends.choose import EXTRAS, backend_order

    return [Extra(name, *EXTRAS[name]) for name in backend_order()]


class Installing:
    """pip at work in a child. `tell` of `run` gets its lines."""

    def __init__(self, extra: Extra) -> None:
        self._extra = extra
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._ended = False

    def run(self, tell: Callable[[str], None]) -> None:
        """Install it; blocks. Raises InstallError, with what pip said last."""
        last = ""
        try:
            with self._lock:
                if self._ended:
                    raise InstallError("Nothing was installed.")
                process = self._process = subprocess.Popen(
                    installer(self._extra.requirement),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    **own_process_group(),
                )
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    if line.strip():
                        last = line.strip()
                        tell(last)
            code = process.wait()
        except OSError as error:
            raise InstallError(
                f"{installer()[0]} cannot be started ({error.strerror}): write it yourself: "
                f"{self._extra.command}"
            ) from error
        if self._ended:
            raise InstallError("Nothing was installed: it was stopped.")
        if code:
            raise InstallError(
                f"{self._extra.name} was not installed ({last[:200]}): write it yourself, to see "
                f"all that is said: {self._extra.command}"
            )
        importlib.invalidate_caches()

    def end(self) -> None:
        """Stop it, from whichever thread."""
        with self._lock:
            self._ended = True
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()


def can_install() -> bool:
    """Whether there is a pip, or what stands for it, to do it here."""
    from shutil import which

    first = installer()[0]
    if first == sys.executable:
        return importlib.util.find_spec("pip") is not None
    return which(first) is not None
