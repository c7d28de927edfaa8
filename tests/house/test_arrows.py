"""The picture of the arrows is that of the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_picture_is_that_of_the_code(package_copy: Path, repository: Path) -> None:
    script = "import arrows, sys; sys.stdout.buffer.write(arrows.picture().encode())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=package_copy.parent, capture_output=True, timeout=120,
        env=os.environ | {"PYTHONPATH": f"{package_copy.parent}{os.pathsep}{repository / 'docs'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    drawn = (repository / "docs" / "arrows.svg").read_bytes()
    assert done.stdout == drawn, "the arrows have changed: make arrows"
