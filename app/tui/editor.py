"""A text in the user's own editor, which has the terminal meanwhile."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from openchat_local.app.tui.widgets.plain_area import with_plain_line_ends
from openchat_local.app.tui.widgets.prompt import LONGEST_TEXT
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from textual.app import App


def edited(app: App[Any], text: str, home: Path) -> str:
    """The text as the editor leaves it. A folder of its own, in the private `home`, takes what
    the editor puts beside it; it stays where there is anything that cannot be taken over.

    Raises OpenChatError.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="editor-", dir=home))
        path = folder / "prompt.md"
        path.write_bytes(text.encode())
    except OSError as error:
        raise OpenChatError(
            f"No file for the editor can be written in {home} ({error.strerror}): "
            "make room there, or write here."
        ) from None
    with _kept_if_not_taken(folder):
        problem = _run_editor(app, path)
        edited = _read(path, text)
        if problem is not None and edited == text:
            raise _Nothing(f"{problem}; the prompt is as it was. $EDITOR names the editor.")
        if problem is not None:
            raise OpenChatError(f"{problem}; what was written is in {path}.")
        if len(edited) > LONGEST_TEXT:
            raise OpenChatError(
                f"The prompt would have {len(edited):,} characters, and it can have "
                f"{LONGEST_TEXT:,}: what was written is in {path}."
            )
    return edited


class _Nothing(OpenChatError):
    """The editor has failed, and there is nothing of its making to be kept."""


@contextmanager
def _kept_if_not_taken(folder: Path) -> Iterator[None]:
    try:
        yield
    except _Nothing:
        rmtree(folder, ignore_errors=True)
        raise
    rmtree(folder, ignore_errors=True)


def _run_editor(app: App[Any], path: Path) -> str | None:
    """What went wrong, if anything did."""
    from textual.app import SuspendNotSupported

    try:
        with app.suspend():
            # Nothing may be raised in here: the window would not come back.
            return _edit(path)
    except SuspendNotSupported:
        return "This terminal cannot be lent to an editor"


def _edit(path: Path) -> str | None:
    import click

    try:
        with _interrupts_are_the_editors():
            click.edit(filename=str(path))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the editor's
        said = error.message if isinstance(error, click.ClickException) else str(error)
        return f"The editor has failed ({said})"
    return None


@contextmanager
def _interrupts_are_the_editors() -> Iterator[None]:
    # Both are in the terminal's foreground. A handler, not SIG_IGN, which the editor would
    # inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _read(path: Path, before: str) -> str:
    """What is in the file now, without the newline that editors put at its end."""
    try:
        text = with_plain_line_ends(path.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        raise OpenChatError(
            f"What the editor has left is no UTF-8 text, so the prompt is as it was; see {path}."
        ) from None
    return text if before.endswith("\n") else text.removesuffix("\n")
