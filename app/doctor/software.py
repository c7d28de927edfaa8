"""Python, and the native libraries that compute; each of these in a child process."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from openchat_local.app.doctor.child import Unanswered, ask_child, python_code
from openchat_local.app.doctor.finding import Finding
from openchat_local.models.system.child_process import python_module
from openchat_local.models.system.installing import install_command
from openchat_local.models.system.machine import llama_libraries

REBUILD = install_command(
    *("--force-reinstall", "--no-cache-dir", "--no-binary", "llama-cpp-python", "llama-cpp-python")
)
ANSWER_SECONDS = 60.0

_MLX = """
import json, mlx.core as mx
print(json.dumps({"version": mx.__version__, "device": mx.default_device().type.name}))
"""
_TORCH = """
import json, torch
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
if torch.backends.mps.is_available():
    devices.append("mps")
if hasattr(torch, "xpu"):
    devices += [torch.xpu.get_device_name(i) for i in range(torch.xpu.device_count())]
print(json.dumps({"version": torch.__version__, "devices": devices}))
"""


def python() -> Iterator[Finding]:
    """The interpreter, and whether it is made for this processor."""
    version = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    facts = {"version": platform.python_version(), "system": platform.platform()}
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        yield Finding(
            "Python", "note", f"{version}: on Apple Silicon this one is translated, and slow.",
            "Where this Mac has an M processor, install Python for arm64 and set up again.", facts,
        )  # fmt: skip
    else:
        yield Finding("Python", "ok", f"{version}.", facts=facts)


def llama() -> Iterator[Finding]:
    """llama.cpp: its build, and the CPU and GPU features that it uses."""
    if importlib.util.find_spec("llama_cpp") is None:
        yield Finding(
            "llama.cpp", "problem", "llama-cpp-python is not installed, so no model can run.",
            install_command("llama-cpp-python"),
        )  # fmt: skip
        return
    try:
        answer = ask_child(python_module("openchat_local.models.engine.devices"), ANSWER_SECONDS)
    except Unanswered as failure:
        yield Finding(
            "llama.cpp", "problem", f"llama.cpp does not start ({failure}): it may be built for "
            "another processor.", f"Build it anew: {REBUILD}",
        )  # fmt: skip
        return
    features = [part.split("=")[0].strip() for part in answer["features"].split("|")]
    names = " ".join(name.rpartition(":")[2].strip() for name in features if name)
    gpus = [gpu["name"] for gpu in answer["gpus"]]
    portable = any("cpu-" in file.name for file in llama_libraries())
    build = "portable, the processor's code chosen at run time" if portable else "for one processor"
    text = f"llama-cpp-python {answer['version']}, built {build}: {names or 'no features known'}"
    text += f"; GPU: {', '.join(gpus)}." if gpus else "; no GPU."
    missing = _unused_features(names)
    if missing:
        yield Finding(
            "llama.cpp", "note", f"{text} It does not use this processor's {', '.join(missing)}.",
            f"For several times the speed build it here: {REBUILD}", answer,
        )  # fmt: skip
    elif not gpus and shutil.which("nvidia-smi"):
        yield Finding(
            "llama.cpp", "note", f"{text} There seems to be an NVIDIA GPU that it cannot use.",
            f'For CUDA build it so: CMAKE_ARGS="-DGGML_CUDA=on" {REBUILD}', answer,
        )  # fmt: skip
    else:
        yield Finding("llama.cpp", "ok", text, facts=answer)


def mlx() -> Iterator[Finding]:
    """MLX, which trains on Apple Silicon."""
    yield from _library("MLX", "mlx", _MLX, "openchat-local[mlx]")


def torch() -> Iterator[Finding]:
    """PyTorch and its devices, which train everywhere else."""
    yield from _library("PyTorch", "torch", _TORCH, "openchat-local[torch]")


def _library(name: str, module: str, code: str, extra: str) -> Iterator[Finding]:
    if importlib.util.find_spec(module) is None:
        yield Finding(
            name, "ok", f"{name} is not installed; only fine-tuning would use it "
            f"({install_command(extra)}).", facts={"installed": False},
        )  # fmt: skip
        return
    try:
        answer = ask_child(python_code(code), ANSWER_SECONDS)
    except Unanswered as failure:
        yield Finding(
            name, "problem", f"{name} is installed and does not start ({failure}).",
            f"{install_command('--force-reinstall', module)}; chat does not need it, "
            "fine-tuning may.",
        )  # fmt: skip
        return
    devices = answer.get("devices", [answer.get("device")])
    where = ", ".join(filter(None, devices)) or "the CPU alone"
    text = f"{name} {answer['version']} computes on {where}."
    yield Finding(name, "ok", text, facts={"installed": True, **answer})


def _unused_features(built: str) -> list[str]:
    """What this processor has and llama.cpp was built without (x86-64 Linux tells)."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return []
    wanted = {"AVX2": "avx2", "FMA": "fma", "F16C": "f16c"}
    return [name for name, flag in wanted.items() if flag in flags and name not in built.split()]
