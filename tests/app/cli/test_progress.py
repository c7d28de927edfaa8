"""The bar of a long command, seen at a terminal and in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

SCRIPT = r"""
import sys
from openchat_local.app.cli.progress import Bar

with Bar("verifying \x1b]0;a\x07b [bold]", 200, below=lambda: ["loss 1.25"]) as bar:
    bar.show(100, "1.0 of 2.0 MB")
    print("result", file=sys.stdout)
    print("a note", file=sys.stderr)
"""


@pytest.mark.skipif(os.name == "nt", reason="a terminal of POSIX")
def test_at_a_terminal_it_shows_where_it_stands_and_is_gone_in_the_end() -> None:
    import pty

    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=theirs, timeout=60,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(theirs)
    assert done.stdout == b"result\n"
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b]0;" not in drawn
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert re.search(r"verifying ␛]0;a␇b \[bold] ━+╺?━+  50% 1\.0 of 2\.0 MB", text)
    assert "loss 1.25" in text
    assert "a note" in text
    assert drawn.endswith("\x1b[2K")  # the line of the bar is empty again


def test_in_a_pipe_it_writes_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60,
        env=os.environ | {"FORCE_COLOR": "1"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("result\n", "a note\n")
