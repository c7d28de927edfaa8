"""Which copies of the program are running: each holds a lock on a file of its own.

The system drops a lock with the process that holds it, however that process ends. So a
lock that can be taken belongs to nobody alive.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from openchat_local.app.chats.errors import ChatStoreError
from openchat_local.app.chats.ids import new_id
from openchat_local.models.system.file_lock import try_lock


def _never() -> bool:
    return False


class Instance:
    """This running program among the others that share its home. Raises OSError."""

    OPENING_SECONDS = 30.0
    _descriptor: int | None

    def __init__(self, folder: Path, given_up: Callable[[], bool] = _never) -> None:
        """Take a name and its lock in `folder`, which is created if need be.

        `given_up` is asked while another instance is waited for.
        """
        self._given_up = given_up
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.id = new_id()
        with self.opening():
            self._forget_the_dead()
            # Another instance that asks whether this one is alive holds the lock briefly.
            while (descriptor := try_lock(self._path(self.id))) is None:
                time.sleep(0.001)
        self._descriptor = descriptor

    @contextmanager
    def opening(self) -> Iterator[None]:
        """One instance at a time may be here: for registration, and for migrations.

        Raises ChatStoreError if another one does not leave, and when it is given up.
        """
        path = self._folder / "opening"
        deadline = time.monotonic() + self.OPENING_SECONDS
        while (descriptor := try_lock(path)) is None:
            if self._given_up():
                raise ChatStoreError("The opening of the chats was given up; open them again.")
            if time.monotonic() > deadline:
                raise ChatStoreError(
                    f"Another openchat-local has been opening the chats beside {self._folder} "
                    f"for {self.OPENING_SECONDS:.0f} seconds; close it and try again."
                )
            time.sleep(0.01)
        try:
            yield
        finally:
            os.close(descriptor)

    def is_alive(self, instance_id: str) -> bool:
        """Whether that instance, perhaps this one, is still running."""
        path = self._path(instance_id)
        if instance_id == self.id:
            return self._descriptor is not None
        if not path.exists():
            return False
        if (descriptor := try_lock(path)) is None:
            return True
        os.close(descriptor)
        return False

    def others(self) -> list[str]:
        """The ids of the other running instances."""
        ids = (path.stem for path in self._folder.glob("*.lock"))
        return [each for each in ids if each != self.id and self.is_alive(each)]

    def close(self) -> None:
        """Let go of the name; harmless when that is done already."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            with suppress(OSError):  # the next instance to open clears it away
                self._path(self.id).unlink()

    def _path(self, instance_id: str) -> Path:
        return self._folder / f"{instance_id}.lock"

    def _forget_the_dead(self) -> None:
        # Only while `opening` is held: between another instance's creation of its file
        # and its lock on it, the file looks dead.
        for path in self._folder.glob("*.lock"):
            if not self.is_alive(path.stem):
                with suppress(OSError):
                    path.unlink()


class LoneInstance(Instance):
    """An instance that shares nothing with any other, and so needs no file."""

    def __init__(self) -> None:
        self.id = new_id()
        self._descriptor = None

    def is_alive(self, instance_id: str) -> bool:
        """Whether it is this one."""
        return instance_id == self.id

    def others(self) -> list[str]:
        """None."""
        return []
