"""What crosses to an engine's child, read off the pipe itself."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from openchat_local.models.engine import wire


class Wiretap:
    """Children that are started from now on get their standard input through a `tee`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._record, program = folder / "crossed", folder / "python"
        program.write_text(f'#!/bin/sh\ntee -a "{self._record}" | "{sys.executable}" "$@"\n')
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    def frames(self, *without: str) -> list[wire.Frame]:
        """All that was sent so far, but for what these frames ask."""
        stream = io.BytesIO(self._record.read_bytes())
        frames = iter(lambda: wire.read_frame(stream), None)
        return [frame for frame in frames if frame["do"] not in without]
