"""Memory, disk, terminal and network of this machine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

from openchat_local.app.doctor.finding import Finding
from openchat_local.app.paths import data_home
from openchat_local.models.system.machine import machine_memory
from openchat_local.models.system.network import OfflineError, require_network
from openchat_local.models.units import memory_in_words

GIB = 1024**3
# A chat's KV states are kept up to 2 GiB; a full disk loses what is being written.
SCARCE_DISK, FULL_DISK = 5 * GIB, GIB // 4


def memory() -> Iterator[Finding]:
    """What is built in, what is free, and what a GPU may use."""
    machine = machine_memory()
    facts = {"total": machine.total, "available": machine.available}
    text = f"{memory_in_words(machine.available)} of {memory_in_words(machine.total)} are free"
    if machine.gpu is not None:
        gpu = machine.gpu
        facts |= {"gpu_total": gpu.total, "gpu_free": gpu.free}
        text += f"; {gpu.name} may use {memory_in_words(gpu.free)} of {memory_in_words(gpu.total)}"
    if machine.available < GIB // 2:
        yield Finding("memory", "note", f"{text}.", "Close other programs before you chat.", facts)
    else:
        yield Finding("memory", "ok", f"{text}.", facts=facts)


def disk() -> Iterator[Finding]:
    """Room where the data home is, or will be."""
    home = data_home()
    folder = next(f for f in (home, *home.parents) if f.exists())
    free = shutil.disk_usage(folder).free
    facts = {"folder": str(folder), "free": free}
    text = f"{memory_in_words(free)} are free at {folder}."
    if free < FULL_DISK:
        yield Finding("disk", "problem", text, "Make room, or replies cannot be kept.", facts)
    elif free < SCARCE_DISK:
        yield Finding(
            "disk", "note", text, "A 7B model needs 5 GB; openchat-local models list shows sizes.",
            facts,
        )  # fmt: skip
    else:
        yield Finding("disk", "ok", text, facts=facts)


def terminal() -> Iterator[Finding]:
    """Whether the chat window can show what it wants to."""
    size = shutil.get_terminal_size()
    encoding = (sys.stdout.encoding or "").lower()
    kind = os.environ.get("TERM", "")
    colours = _colours(kind)
    facts = {
        "columns": size.columns, "rows": size.lines, "encoding": encoding, "colours": colours,
        "terminal": sys.stdout.isatty(),
    }  # fmt: skip
    if not sys.stdout.isatty():
        yield Finding("terminal", "ok", "The output goes to no terminal.", facts=facts)
        return
    text = f"{size.columns} × {size.lines}, {colours}, {encoding}."
    if kind in ("dumb", "unknown") or (not kind and os.name != "nt"):
        advice = "Use another terminal, or set TERM to what this one is, such as xterm-256color."
        yield Finding("terminal", "note", f"{text} TERM is {kind or 'not set'!r}.", advice, facts)
    elif encoding.replace("-", "") != "utf8":
        advice = "Set a UTF-8 locale, such as LC_ALL=C.UTF-8."
        yield Finding(
            "terminal", "note", f"{text} Not every character can be shown.", advice, facts
        )
    elif size.columns < 60 or size.lines < 16:
        yield Finding("terminal", "note", text, "Make the window larger: 80 × 24 is good.", facts)
    else:
        yield Finding("terminal", "ok", text, facts=facts)


def network() -> Iterator[Finding]:
    """Whether the user has shut the network off. No connection is tried."""
    try:
        require_network("Fetching a model")
    except OfflineError as refusal:
        yield Finding("network", "ok", f"Shut off: {refusal}", facts={"offline": True})
        return
    text = (
        "Not shut off: `models pull`, `eval suites pull`, `bundle`, remote engines and "
        "`serve --host` may use it, nothing else does. No connection was tried."
    )
    yield Finding("network", "ok", text, facts={"offline": False})


def _colours(kind: str) -> str:
    if os.environ.get("NO_COLOR"):
        return "no colours (NO_COLOR)"
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16 million colours"
    return "256 colours" if "256" in kind else "16 colours"
