"""What crosses to an engine's child, read off the pipe itself."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest

from openchat_local.models.engine import wire


class Wiretap:
    """The child that is started next gets its standard input through a `tee`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._record, program = folder / "crossed", folder / "python"
        program.write_text(f'#!/bin/sh\ntee -a "{self._record}" | "{sys.executable}" "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    def frames(self) -> list[wire.Frame]:
        """All that was sent to the child before it was told to close, which it has been.

        The child may know a frame before it is recorded, but not in another order.
        """
        deadline = time.monotonic() + 60
        # A question that was on its way when it closed starts another child, which adds its own.
        while "close" not in (told := [frame["do"] for frame in self._recorded()]):
            assert time.monotonic() < deadline, f"the child was not told to close, but {told}"
            time.sleep(0.01)
        return self._recorded()[: told.index("close")]

    def _recorded(self) -> list[wire.Frame]:
        if not self._record.exists():
            return []
        stream = io.BytesIO(self._record.read_bytes())
        return list(iter(lambda: wire.read_frame(stream), None))
