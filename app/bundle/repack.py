"""From an installed distribution back to the wheel it came from: the same files, no network.

Format: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import zipfile
from importlib.metadata import Distribution, PackagePath
from pathlib import Path

from openchat_local.app.bundle.errors import BundleError
from openchat_local.models.system.installing import install_command

# A level for the whole archive is not that of an entry that is made here: it is said for each.
_QUICK = 1

# pip writes these while it installs; they are not part of a wheel.
_WRITTEN_BY_PIP = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"})


def repacked(distribution: Distribution, folder: Path) -> Path:
    """Write the wheel of an installed distribution into `folder`; its path.

    Console scripts are left out, since pip makes them from the entry points. Raises BundleError
    if it was not installed from a wheel, or was changed since.
    """
    name, version = distribution.name, distribution.version
    description = distribution.read_text("WHEEL")
    if not description or not distribution.files or is_editable(distribution):
        raise BundleError(
            f"The Python package {name} was not installed from a wheel, so it cannot be put into "
            f"a bundle: install it anew with "
            f"{install_command('--force-reinstall', f'{name}=={version}')}."
        )
    files = [file for file in distribution.files if _belongs(file)]
    stem = f"{name.replace('-', '_').replace('.', '_')}-{version}"
    info = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
    path = folder / f"{stem}-{_tag(description)}.whl"
    rows = []
    with zipfile.ZipFile(path, "w") as wheel:
        for file in files:
            data = _unchanged(distribution, file)
            rows.append((str(file), f"sha256={_digest(data)}", str(len(data))))
            wheel.writestr(_entry(str(file)), data, compresslevel=_QUICK)
        record = f"{info}/RECORD"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (record, "", "")])
        wheel.writestr(_entry(record), text.getvalue(), compresslevel=_QUICK)
    return path


def is_editable(distribution: Distribution) -> bool:
    """Whether it is a link to a source tree, and no copy."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))


def _belongs(file: PackagePath) -> bool:
    outside = file.parts[0] == ".."  # scripts, man pages
    compiled = file.suffix == ".pyc"
    in_info = file.parts[0].endswith(".dist-info") and len(file.parts) == 2
    return not (outside or compiled or (in_info and file.name in _WRITTEN_BY_PIP))


def _unchanged(distribution: Distribution, file: PackagePath) -> bytes:
    try:
        data = Path(str(distribution.locate_file(file))).read_bytes()
    except OSError as error:
        raise _changed(distribution, file, error.strerror or "unreadable") from error
    if file.hash is not None and file.hash.mode == "sha256" and file.hash.value != _digest(data):
        raise _changed(distribution, file, "not what was installed")
    return data


def _changed(distribution: Distribution, file: PackagePath, how: str) -> BundleError:
    name = f"{distribution.name}=={distribution.version}"
    return BundleError(
        f"{distribution.locate_file(file)} is {how}, so {distribution.name} cannot be put into a "
        f"bundle: install it anew with {install_command('--force-reinstall', name)}."
    )


def _tag(description: str) -> str:
    """The tags of a WHEEL file in a file name's form, such as "cp311-cp311-linux_x86_64"."""
    lines = description.splitlines()
    tags = [line.partition(":")[2].strip().split("-") for line in lines if line.startswith("Tag:")]
    parts = zip(*tags, strict=True)
    return "-".join(".".join(dict.fromkeys(part)) for part in parts)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # dated 1980, so that the same files give the same wheel
    # Quantised weights do not get smaller.
    stored = name.endswith(".gguf")
    entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
