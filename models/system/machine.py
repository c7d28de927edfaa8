"""The memory of this machine: what there is, what is free, and what a GPU may use."""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from openchat_local.models.system.child_process import python_module

# A driver that is asked for its devices for the first time may compile something.
PROBE_SECONDS = 30.0
# What llama.cpp's libraries of a GPU are called, whatever the system puts around the name.
_GPU_LIBRARIES = ("cuda", "hip", "vulkan", "sycl", "musa", "opencl")


@dataclass(frozen=True, slots=True)
class GPUMemory:
    """What a GPU, or all of them together, may use, in bytes. `unified` memory is the
    machine's own, of which the system lets the GPU have `total`."""

    name: str
    total: int
    free: int
    unified: bool = False


@dataclass(frozen=True, slots=True)
class MachineMemory:
    """Bytes: `total` built in (or allowed, in a container), `available` without swapping."""

    total: int
    available: int
    gpu: GPUMemory | None = None


def machine_memory() -> MachineMemory:
    """What this machine has now.

    A GPU is asked about in a child process, once, and only if llama.cpp was built for one.
    """
    memory = main_memory()
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return replace(memory, gpu=_metal(memory.total, memory.available))
    return replace(memory, gpu=_probed_gpu())


def main_memory() -> MachineMemory:
    """The same without a look at GPUs."""
    import psutil

    memory = psutil.virtual_memory()
    total, available = int(memory.total), int(memory.available)
    if limit := _container_limit():
        total = min(total, limit[0])
        available = min(available, max(limit[0] - limit[1], 0))
    return MachineMemory(total, available)


def total_of(devices: list[GPUMemory]) -> GPUMemory | None:
    """Several GPUs as one, which is how llama.cpp spreads a model over them; None for none."""
    if not devices:
        return None
    return GPUMemory(
        " + ".join(device.name for device in devices),
        sum(device.total for device in devices),
        sum(device.free for device in devices),
        all(device.unified for device in devices),
    )


def library_folders() -> list[Path]:
    """Where the shared libraries of the installed llama.cpp are; nothing is imported.

    The wheel of llama-cpp-python has them in llama_cpp/lib, except those that are chosen at
    run time, which its build leaves in a folder `bin` beside llama_cpp.
    """
    spec = importlib.util.find_spec("llama_cpp")
    packages = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    folders = [where for package in packages for where in (package / "lib", package.parent / "bin")]
    return [folder for folder in folders if folder.is_dir()]


def llama_libraries() -> list[Path]:
    """The shared libraries of the installed llama.cpp."""
    return sorted(file for folder in library_folders() for file in folder.glob("*ggml*"))


def _metal(total: int, available: int) -> GPUMemory:
    # Metal's recommendedMaxWorkingSetSize, unless the user raised it: two thirds of the memory
    # of small machines, three quarters of larger ones (as llama.cpp reports it on both).
    budget = _raised_metal_limit() or (total * 3 // 4 if total > 36 * 1024**3 else total * 2 // 3)
    return GPUMemory("Metal", budget, min(budget, available), unified=True)


def _raised_metal_limit() -> int:
    """`sysctl iogpu.wired_limit_mb` in bytes; 0 where the user left it alone."""
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
        return int(done.stdout) * 1024**2
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


@cache
def _probed_gpu() -> GPUMemory | None:
    names = [file.name for file in llama_libraries()]
    if not any(kind in name for name in names for kind in _GPU_LIBRARIES):
        return None
    try:
        done = subprocess.run(
            python_module("openchat_local.models.engine.devices"),
            stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=True,
        )  # fmt: skip
        return total_of([GPUMemory(**device) for device in json.loads(done.stdout)["gpus"]])
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError):
        return None  # a driver that fails here is a GPU that cannot be used; `doctor` says why


def _container_limit() -> tuple[int, int] | None:
    """The memory limit and use of this process's control group (cgroup v2), in bytes."""
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        folder = Path("/sys/fs/cgroup") / group.lstrip("/")
        return int((folder / "memory.max").read_text()), _used(folder)
    except (OSError, ValueError):  # no such files, or "max"
        return None


def _used(group: Path) -> int:
    """Bytes that cannot be taken back; cached files can."""
    counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    cached = int(counts.get("inactive_file", 0)) + int(counts.get("active_file", 0))
    return max(int((group / "memory.current").read_text()) - cached, 0)
