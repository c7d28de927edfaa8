"""A terminal whose input cannot be read any more."""

from __future__ import annotations

import os

from openchat_local.app.tui.posix_driver import PosixDriver


class FailingDriver(PosixDriver):
    """Fails at the first key that is pressed."""

    def run_input_thread(self) -> None:
        os.read(self.fileno, 1)
        raise ZeroDivisionError("the input broke")
