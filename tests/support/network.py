"""Commands cut off from every network."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest


def isolated_command() -> list[str]:
    """A prefix that runs a command in a network namespace that holds nothing, not even lo."""
    command = ["unshare", "--map-root-user", "--net"]
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs Linux network namespaces")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system forbids network namespaces to users")
    return command
