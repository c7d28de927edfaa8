"""Making the folder: whole, or not there."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from openchat_local.app.bundle.closure import requirement
from openchat_local.app.bundle.contents import Contents
from openchat_local.app.bundle.errors import BundleError
from openchat_local.app.bundle.target import Target
from openchat_local.app.bundle.wheels import gather_wheels
from openchat_local.models.library.hashing import copy_and_hash, sha256_of
from openchat_local.models.system.atomic import replacing_folder
from openchat_local.models.units import size_in_words

Say = Callable[[str], None]

# What wheels take; with PyTorch some more.
WHEEL_BYTES = 200 * 1024**2
TORCH_BYTES = 3 * 1024**3
PROGRAM_FOLDER = "openchat-local"


@dataclass(frozen=True, slots=True)
class Order:
    """What to make. `wheels` is a folder with a wheel of llama.cpp to take, None to take the
    one installed here (`native`) or to build one."""

    target: Target
    contents: Contents
    extras: tuple[str, ...] = ()
    native: bool = False
    wheels: Path | None = None

    @property
    def all_extras(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.contents.extras, *self.extras)))


def make_bundle(out: Path, order: Order, say: Say) -> int:
    """Make the folder `out`; its size in bytes. `say` gets a line for every step.

    Raises BundleError, OfflineError or OSError; then there is no `out`.
    """
    if out.exists():
        raise BundleError(f"{out} is there already: name a folder that is not, or remove it.")
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_room(out.parent, order)
    with replacing_folder(out, new=True) as folder:
        (folder / "wheels").mkdir()
        gather_wheels(
            folder / "wheels", order.target, order.all_extras,
            native=order.native, given=order.wheels, say=say,
        )  # fmt: skip
        sums = [
            f"{sha256_of(wheel)}  wheels/{wheel.name}"
            for wheel in sorted((folder / "wheels").iterdir())
        ]
        sums += copied_models(folder, order.contents, say)
        sums += _copied_adapters(folder, order.contents, say)
        (folder / "SHA256SUMS").write_text("".join(f"{line}\n" for line in sums), "utf-8")
        _write_texts(folder, order)
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())


def _check_room(folder: Path, order: Order) -> None:
    needed = sum(model.bytes for model in order.contents.models) + WHEEL_BYTES
    needed += TORCH_BYTES if "torch" in order.extras else 0
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BundleError(
            f"The bundle takes about {size_in_words(needed)} and {size_in_words(free)} are free in "
            f"{folder}: make room, or name a folder on another disk."
        )


def copied_models(folder: Path, contents: Contents, say: Say) -> list[str]:
    """Put the models into `folder`; the lines of SHA256SUMS for them."""
    sums = []
    for model in contents.models:
        say(f"Copying {model.reference} ({size_in_words(model.bytes)}) ...")
        (folder / "models").mkdir(exist_ok=True)
        for name, source in model.files.items():
            hashed = copy_and_hash(source, folder / "models" / name)
            sums.append(f"{hashed}  models/{name}")
    return sums


def _copied_adapters(folder: Path, contents: Contents, say: Say) -> list[str]:
    sums = []
    for name, source in contents.adapters.items():
        say(f"Copying the adapter {name} ...")
        (folder / "adapters").mkdir(exist_ok=True)
        hashed = copy_and_hash(source, folder / "adapters" / f"{name}.gguf")
        sums.append(f"{hashed}  adapters/{name}.gguf")
    return sums


def _write_texts(folder: Path, order: Order) -> None:
    from openchat_local import __version__

    windows = order.target.platform.startswith("windows")
    here = order.target.is_here
    libc = platform.libc_ver()[1] if here and platform.libc_ver()[0] == "glibc" else ""
    values = {
        "VERSION": __version__,
        "FOLDER": PROGRAM_FOLDER,
        "PYTHON": order.target.python,
        "SYSTEM": order.target.system,
        "REQUIREMENT": requirement(order.all_extras),
        "DATE": time.strftime("%Y-%m-%d"),
        "LIBC": f" and glibc {libc} or newer" if libc else "",
        "BUILD": _build(order),
        "CONTENTS": "\n".join(_described(folder)),
        "PROGRAM": f"{'~' if not windows else '%USERPROFILE%'}/{PROGRAM_FOLDER}/"
        f"{'Scripts' if windows else 'bin'}/openchat-local",
        "CHAT": " ".join(["chat", *(f"--adapter {n}" for n in list(order.contents.adapters)[:1])]),
    }
    sh, powershell = _steps(order.contents)
    _write(folder / "README.txt", "README.txt", values)
    _write(folder / "install", "install.sh", values | {"STEPS": "\n".join(sh)})
    (folder / "install").chmod(0o755)
    _write(folder / "install.ps1", "install.ps1", values | {"STEPS": "\n".join(powershell)})


def _write(path: Path, template: str, values: dict[str, str]) -> None:
    text = Path(__file__).with_name(template).read_text("utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    path.write_text(text, "utf-8", newline="\n")


def _steps(contents: Contents) -> tuple[list[str], list[str]]:
    """What the two scripts do after the program is there. Names hold no character that a shell
    would read."""
    sh, powershell = [], []
    for model in contents.models:
        arguments = f"{model.name} {model.quantisation} models/{model.file_name}"
        sh.append(f'echo "Model {model.reference} ..."\nadd_model {arguments}')
        powershell.append(f'Write-Host "Model {model.reference} ..."\nadd_model {arguments}')
    for name in contents.adapters:
        sh.append(f"add_adapter {name} adapters/{name}.gguf")
        powershell.append(f"add_adapter {name} adapters/{name}.gguf")
    if contents.models:  # the program's own default is the starter, which may not be there
        line = f'model = "{contents.first_model}"'
        sh.append(
            'config=$("$program" config path)\n'
            'if [ ! -e "$config" ]; then\n'
            '    mkdir -p "$(dirname -- "$config")"\n'
            f"    printf '%s\\n' '{line}' >\"$config\"\n"
            "fi"
        )
        powershell.append(
            "$config = & $program config path\n"
            "if (-not (Test-Path $config)) {\n"
            "    New-Item -ItemType Directory -Force (Split-Path $config) | Out-Null\n"
            f"    Set-Content -Path $config -Value '{line}'\n"
            "}"
        )
    return sh, powershell


def _build(order: Order) -> str:
    if order.wheels is not None:
        return "llama.cpp is the wheel\nthat was given for it."
    if order.native:
        return (
            "llama.cpp was built\nfor the processor of the machine it comes from: this is for the "
            "same kind only."
        )
    return "llama.cpp finds out\nat run time what the processor can do."


def _described(folder: Path) -> Sequence[str]:
    lines = []
    for name in ("wheels", "models", "adapters"):
        files = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
        if files:
            size = sum(file.stat().st_size for file in files)
            listed = (
                f"{len(files)} packages" if name == "wheels" else ", ".join(f.stem for f in files)
            )
            lines.append(f"    {name + '/':11}{size_in_words(size):>11}   {listed}")
    return lines
