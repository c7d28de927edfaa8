"""The commands that install something, run as they are told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openchat_local.models.system.installing import install_command


@pytest.mark.skipif(shutil.which("sh") is None, reason="the shell is another one")
def test_the_command_is_for_the_python_that_runs() -> None:
    # All of it is here already, so that pip has nothing to fetch.
    command = install_command("openchat-local[mlx]", "numpy")
    done = subprocess.run(
        ["sh", "-c", command], env=os.environ | {"PIP_NO_INDEX": "1"}, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "numpy" in done.stdout
    assert "Collecting" not in done.stdout


@pytest.mark.parametrize(
    ("marker", "begins"),
    [
        ("pipx_metadata.json", "pipx runpip openchat-local install 'openchat-local[torch]'"),
        ("uv-receipt.toml", "uv pip install --python "),
        ("pyvenv.cfg", f"{sys.executable} -m pip install "),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="quoted for another shell")
def test_pipx_and_uv_are_asked_for_their_own(
    marker: str, begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / marker).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert install_command("openchat-local[torch]").startswith(begins)
