"""All wheels of a bundle, in one folder."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from openchat_local.app.bundle.building import LLAMA, own_wheel, portable_llama
from openchat_local.app.bundle.closure import needed_distributions, pins
from openchat_local.app.bundle.errors import BundleError
from openchat_local.app.bundle.repack import repacked
from openchat_local.app.bundle.target import Target
from openchat_local.models.system.network import require_network

Say = Callable[[str], None]


def gather_wheels(
    folder: Path,
    target: Target,
    extras: Sequence[str],
    *,
    native: bool,
    given: Path | None,
    say: Say,
) -> None:
    """Fill `folder`. llama.cpp comes from `given`, a folder of wheels, if one is there; else as
    it is installed here if `native`; else it is built portable, which needs the network.

    Raises BundleError or OfflineError.
    """
    llama = _given_llama(given, target)
    _check_sources(target, native, llama)
    say("Packing the program ...")
    ours = own_wheel(folder)
    if target.is_here:
        distributions = needed_distributions(ours, extras)
        say(f"Packing {len(distributions)} packages as they are installed here ...")
        for distribution in distributions:
            if distribution.name.lower() != LLAMA or (native and llama is None):
                repacked(distribution, folder)
        repacked(_pip(), folder)
    else:
        wanted = pins(ours, extras, target.markers())
        say(f"Fetching {len(wanted) - 1} packages for {target.platform} ...")
        # An older pip may not know a newer Python.
        _download(folder, target, [*(pin for pin in wanted if not pin.startswith(LLAMA)), "pip"])
    if llama is not None:
        say(f"Taking {llama.name} from {llama.parent} ...")
        shutil.copy(llama, folder)
    elif not native:
        say("Building llama.cpp for every processor of this kind: some minutes ...")
        portable_llama(folder)


def _check_sources(target: Target, native: bool, llama: Path | None) -> None:
    """Refuse before minutes of work rather than after."""
    if not target.is_here:
        if llama is None:
            raise BundleError(
                f"There is no ready-made {LLAMA} for {target.platform} with Python "
                f"{target.python}: build it on such a machine (pip wheel --no-deps {LLAMA}) and "
                "name the folder of that wheel with --wheels."
            )
        require_network(f"Fetching packages for {target.platform}")
    elif llama is None and not native:
        require_network(f"Fetching the source of {LLAMA}")


def _given_llama(folder: Path | None, target: Target) -> Path | None:
    if folder is None:
        return None
    name, _, machine = target.platform.partition("-")
    kind = {"linux": "linux", "macos": "macosx", "windows": "win"}[name]
    machine = "amd64" if name == "windows" else machine
    # The platform is the last part of a wheel's name: linux_x86_64, macosx_14_0_arm64.
    found = sorted(folder.glob(f"llama_cpp_python-*-*{kind}*_{machine}.whl"))
    if not found:
        raise BundleError(
            f"There is no wheel of {LLAMA} for {target.platform} in {folder}: name a folder that "
            "has one, or leave --wheels out."
        )
    return found[-1]


def _pip() -> importlib.metadata.Distribution:
    """pip itself goes along, so that the other machine needs no `ensurepip`."""
    try:
        return importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError:
        raise BundleError(
            f"This Python ({sys.executable}) has no pip, which goes into the bundle: "
            "bring it with python -m ensurepip."
        ) from None


def _download(folder: Path, target: Target, requirements: Sequence[str]) -> None:
    platforms = [word for tag in target.wheel_platforms() for word in ("--platform", tag)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
         "--disable-pip-version-check", "--only-binary", ":all:", "--implementation", "cp",
         "--python-version", target.python, *platforms, "--dest", str(folder), *requirements],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = lines[-1].removeprefix("ERROR: ") if lines else "pip said nothing"
        raise BundleError(
            f"A package for {target.platform} with Python {target.python} could not be fetched "
            f"({reason[:200]}): try another --python, or make the bundle on such a machine."
        )
