"""What has to be installed together with this program: the distributions of its dependencies,
in the versions that are installed and work here."""

from __future__ import annotations

import importlib.metadata
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

from openchat_local.app.bundle.errors import BundleError
from openchat_local.models.system.installing import install_command

OURS = "openchat-local"


def needed_distributions(wheel: Path, extras: Sequence[str]) -> list[Distribution]:
    """All that our `wheel` needs with `extras` on a machine like this one, itself left out, in
    alphabetical order. Raises BundleError where one of them is not installed."""
    from packaging.markers import default_environment

    environment = {key: str(value) for key, value in default_environment().items()}
    found, _ = _closure(wheel, extras, environment)
    missing = [name for name, distribution in found.items() if distribution is None]
    if missing:
        raise BundleError(
            f"{', '.join(missing)} belongs into the bundle and is not installed here: "
            f"install it ({install_command(*missing)}) and try again."
        )
    return [distribution for distribution in found.values() if distribution is not None]


def pins(wheel: Path, extras: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The same for a machine of another kind, whose markers are `environment`, as requirements
    for pip: in the version that is installed here, where one is."""
    found, asked = _closure(wheel, extras, environment)
    return [
        f"{name}=={distribution.version}" if distribution else f"{name}{asked[name]}"
        for name, distribution in found.items()
    ]


def requirement(extras: Sequence[str]) -> str:
    """What to install there, such as "openchat-local[starter]==0.1.0"."""
    from openchat_local import __version__

    chosen = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"{OURS}{chosen}=={__version__}"


def _closure(
    wheel: Path, extras: Sequence[str], environment: Mapping[str, str]
) -> tuple[dict[str, Distribution | None], dict[str, str]]:
    """By name, None for what is not installed here; and the versions that were asked for first,
    such as ">=0.30"."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    # What an editable installation says of itself may be older than its source.
    found: dict[str, Distribution | None] = {OURS: _in_wheel(wheel)}
    asked: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(OURS, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        if name not in found:
            found[name] = _installed(name)
        distribution = found[name]
        for line in (distribution.requires or []) if distribution is not None else []:
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({**environment, "extra": extra}):
                below = str(canonicalize_name(wanted.name))
                asked.setdefault(below, str(wanted.specifier))
                waiting += [(below, part) for part in ("", *wanted.extras)]
    del found[OURS]
    return dict(sorted(found.items())), asked


def _in_wheel(wheel: Path) -> Distribution:
    root = zipfile.Path(wheel)
    return PathDistribution(next(part for part in root.iterdir() if ".dist-info" in part.name))


def _installed(name: str) -> Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
