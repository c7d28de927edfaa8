"""The two wheels that are built rather than taken: ours from a source tree, and a llama.cpp
that runs on any processor of its kind."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from openchat_local.app.bundle.closure import OURS
from openchat_local.app.bundle.errors import BundleError
from openchat_local.app.bundle.repack import is_editable, repacked

LLAMA = "llama-cpp-python"
# Several builds of the processor's code side by side, of which ggml loads the best one that
# the machine can run. GGML_NATIVE would compile for this machine alone.
PORTABLE = "-DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON"
_OLDEST_SETUPTOOLS = 77  # pyproject.toml: build-system


def own_wheel(folder: Path) -> Path:
    """This program's wheel: built where it runs from a source tree, repacked where it was
    installed from a wheel. Raises BundleError."""
    source = Path(__file__).parents[2]
    # Not the metadata: a build leaves some in the tree, which is found first from there.
    if not (source / "pyproject.toml").is_file():
        distribution = importlib.metadata.distribution(OURS)
        if is_editable(distribution):
            raise BundleError(
                f"The source tree that this program runs from ({source}) has no pyproject.toml: "
                "install the program anew, with pip install ., and try again."
            )
        return repacked(distribution, folder)
    with tempfile.TemporaryDirectory() as scratch:
        # From a copy: what an earlier build left in the tree would slip into the wheel.
        copy = Path(scratch) / "source"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
        shutil.copytree(source, copy, ignore=ignored)
        isolation = [] if _setuptools_is_here() else ["--no-build-isolation"]
        return _pip_wheel(folder, [str(copy), *isolation], "the program itself")


def portable_llama(folder: Path) -> Path:
    """Compile the installed version of llama-cpp-python for all processors of this kind; it
    takes minutes. Raises BundleError."""
    version = importlib.metadata.version(LLAMA)
    before = os.environ.get("CMAKE_ARGS", "")
    return _pip_wheel(
        folder,
        [f"{LLAMA}=={version}", "--no-binary", LLAMA, "--no-cache-dir"],
        f"{LLAMA} {version}",
        CMAKE_ARGS=f"{before} {PORTABLE}".strip(),
    )


def _setuptools_is_here() -> bool:
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0]) >= _OLDEST_SETUPTOOLS
    except importlib.metadata.PackageNotFoundError:
        return False


def _pip_wheel(folder: Path, what: Sequence[str], name: str, **environment: str) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise BundleError(
            f"This Python ({sys.executable}) has no pip, which builds {name}: "
            "bring it with python -m ensurepip."
        )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet",
             "--disable-pip-version-check", "--wheel-dir", scratch, *what],
            env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", check=False,
        )  # fmt: skip
        built = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or len(built) != 1:
            raise BundleError(
                f"The wheel of {name} could not be built ({_reason(done.stderr)}): look at what "
                f"pip wheel {what[0]} says, or leave it out with --native."
            )
        return Path(shutil.move(built[0], folder / built[0].name))


def _reason(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    named = [line for line in lines if line.lower().startswith(("error:", "cmake error"))]
    return (named or lines or ["pip said nothing"])[0][:200]
