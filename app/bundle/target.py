"""The machine that a bundle is for."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

# glibc versions of the wheels that pip may take for a Linux: 2.28 is of 2018.
_GLIBC = range(17, 29)
# What a macOS wheel may ask for: MLX wants 14.
_MACOS = "14_0"

PLATFORMS = ("linux-x86_64", "linux-aarch64", "macos-arm64", "macos-x86_64", "windows-x86_64")
_KERNELS = {"linux": "Linux", "macos": "Darwin", "windows": "Windows"}
_SYS_PLATFORMS = {"linux": "linux", "macos": "darwin", "windows": "win32"}


@dataclass(frozen=True, slots=True)
class Target:
    """`platform` is one of PLATFORMS, or this machine's own; `python` such as "3.11"."""

    platform: str
    python: str

    @property
    def system(self) -> str:
        """What `uname -s -m` says there, such as "Linux x86_64"."""
        name, _, machine = self.platform.partition("-")
        return f"{_KERNELS[name]} {machine}"

    @property
    def is_here(self) -> bool:
        """Whether this is the kind of machine, and Python, that runs now."""
        return self == here()

    def markers(self) -> dict[str, str]:
        """What environment markers of requirements are evaluated with there."""
        name, _, machine = self.platform.partition("-")
        return {
            "implementation_name": "cpython",
            "os_name": "nt" if name == "windows" else "posix",
            "platform_machine": "AMD64" if name == "windows" else machine,
            "platform_python_implementation": "CPython",
            "platform_system": _KERNELS[name],
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": _SYS_PLATFORMS[name],
        }

    def wheel_platforms(self) -> list[str]:
        """The platform tags of wheels that can be installed there."""
        name, _, machine = self.platform.partition("-")
        if name == "linux":
            ladder = [f"manylinux_2_{minor}_{machine}" for minor in reversed(_GLIBC)]
            return [*ladder, f"manylinux2014_{machine}", f"linux_{machine}"]
        return [f"macosx_{_MACOS}_{machine}"] if name == "macos" else ["win_amd64"]


def here() -> Target:
    """This machine, with the Python that runs now."""
    names = {"darwin": "macos", "win32": "windows"}
    machine = platform.machine().lower().replace("amd64", "x86_64")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Target(f"{names.get(sys.platform, 'linux')}-{machine}", version)
