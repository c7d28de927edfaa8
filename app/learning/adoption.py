"""Which adapter new chats answer with: adopted, and brought back, exactly.

What is adopted stands in one place, the setting `adapter` of the settings file. Beside it a journal
(`learning/adopted.json` in the data home) keeps what the file was before, so that rolling back
gives the same bytes. Two files cannot change at once: the journal comes first when something is
adopted, and last when it is taken back, so that whatever kills the program leaves at most an
entry that never came to hold, which is dropped at the next look.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openchat_local.app.engine import adapter_path
from openchat_local.app.paths import config_path, ensure_home
from openchat_local.app.settings.file import with_setting, write_file, write_setting
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import NO_ADAPTER
from openchat_local.models.system.atomic import replacing
from openchat_local.models.system.file_lock import try_lock

KEPT = 200  # entries of the history
_KEY = ("adapter",)
_WAIT_SECONDS = 5.0


class AdoptionError(OpenChatError):
    """What answers cannot be changed, or not brought back."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """`adapter` (or "none") was adopted `at` (seconds since 1970) in place of `before`, None where
    the file named none. `text` was the whole settings file, None where there was no file; and
    `written` is the SHA-256 (hex) of what was made of it."""

    at: float
    adapter: str
    before: str | None
    text: str | None
    written: str


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an adapter, in the order of time: "adopted" or "brought back"."""

    at: float
    what: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Change:
    """What answered before, and what answers now; "none" is the model as it is. `skipped` are
    adapters that would have been brought back, had they not been deleted since."""

    before: str
    now: str
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Journal:
    """`stack` is what can be taken back, the newest last; `history` what happened."""

    stack: tuple[Adoption, ...] = ()
    history: tuple[Event, ...] = ()

    def adopted_at(self, name: str) -> float | None:
        """When an adapter came to answer last; None for never."""
        return next((event.at for event in reversed(self.history) if event.adapter == name), None)


def journal_path() -> Path:
    """The file of the journal, which need not exist."""
    return ensure_home() / "learning" / "adopted.json"


def read_journal() -> Journal:
    """The journal as it is. Raises AdoptionError where the file is damaged."""
    path = journal_path()
    try:
        found = json.loads(path.read_bytes())
        return Journal(
            tuple(Adoption(**entry) for entry in found["stack"]),
            tuple(Event(**event) for event in found["history"]),
        )
    except FileNotFoundError:
        return Journal()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AdoptionError(
            f"{path} cannot be read ({error}), so nothing can be taken back: delete it, and choose "
            "what answers with openchat-local adapters use NAME."
        ) from error


def adopt_setting(name: str) -> Change:
    """Have the settings file name the adapter `name`, or "none". Whether it is there and fits is
    the caller's to know. Raises AdoptionError or SettingsError."""
    path = config_path()
    with _alone():
        journal = read_journal()
        data = _bytes_of(path)
        before = _value(data)
        if name == (before or NO_ADAPTER):
            return Change(name, name)
        stack = _settled(journal.stack, before)
        changed = _changed(path, data, name)
        now = time.time()
        entry = Adoption(now, name, before, None if data is None else _text(data), _digest(changed))
        _write(Journal((*stack, entry), (*journal.history, Event(now, "adopted", name))))
        write_file(path, changed)
    return Change(before or NO_ADAPTER, name)


def take_back() -> Change:
    """Bring back what answered before the last adoption; where the settings file was not touched
    since, byte for byte. Raises AdoptionError where there is nothing to go back to."""
    path = config_path()
    with _alone():
        journal = read_journal()
        data = _bytes_of(path)
        value = _value(data)
        stack = list(_settled(journal.stack, value))
        if not stack:
            raise AdoptionError("There is nothing to go back to: no adapter was adopted.")
        if stack[-1].adapter != (value or NO_ADAPTER):
            return _bring_back_the_last(journal, stack, value)
        entry, skipped = stack.pop(), []
        exact = data is not None and _digest(data) == entry.written
        while stack and not _can_answer(entry.before):  # deleted since: what was before that
            skipped.append(entry.before or NO_ADAPTER)
            older = stack.pop()
            exact &= entry.text is not None and _digest(entry.text.encode()) == older.written
            entry = older
        before = entry.before
        if not _can_answer(before):
            skipped.append(before or NO_ADAPTER)
            before, exact = None, False
        if not exact:
            write_setting(path, _KEY, before)
        elif entry.text is None:
            path.resolve().unlink(missing_ok=True)  # adopting made it, and nobody wrote to it since
        else:
            write_file(path, entry.text.encode())
        _note_return(journal, stack, before or NO_ADAPTER)
    return Change(value or NO_ADAPTER, before or NO_ADAPTER, tuple(skipped))


def _bring_back_the_last(journal: Journal, stack: Sequence[Adoption], value: str | None) -> Change:
    """Somebody named another adapter by hand since: what was adopted last answers again."""
    last = stack[-1].adapter
    if not _can_answer(last):
        raise AdoptionError(
            f"The adapter {last}, which was adopted last, was deleted since: choose another with "
            "openchat-local adapters use NAME."
        )
    write_setting(config_path(), _KEY, last)
    _note_return(journal, stack, last)
    return Change(value or NO_ADAPTER, last)


def _note_return(journal: Journal, stack: Sequence[Adoption], name: str) -> None:
    history = (*journal.history, Event(time.time(), "brought back", name))
    # The settings say it already: entries that do not hold any more are dropped at the next look.
    with suppress(AdoptionError):
        _write(Journal(tuple(stack), history))


def _can_answer(value: str | None) -> bool:
    """Whether there is such an adapter, or none is meant."""
    try:
        path = adapter_path(value)
    except OpenChatError:
        return False
    return path is None or path.is_file()


def _settled(stack: Sequence[Adoption], value: str | None) -> Sequence[Adoption]:
    """The entries without the last ones that do not hold: the program was killed before the
    settings said so, or after they did not any more; or somebody went back by hand."""
    if stack and stack[-1].adapter != (value or NO_ADAPTER):
        for number in reversed(range(len(stack))):
            if stack[number].before == value:
                return stack[:number]
    return stack


def _changed(path: Path, data: bytes | None, name: str) -> bytes:
    from openchat_local.app.settings.layers import SettingsError

    try:
        return with_setting("" if data is None else data.decode("utf-8-sig"), _KEY, name).encode()
    except ValueError as error:
        raise SettingsError(
            f"{path} is not valid TOML ({error}), so nothing was written to it; correct it first."
        ) from None


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AdoptionError(
            f"The settings file {path} cannot be read ({error.strerror}): make it readable."
        ) from error


def _value(data: bytes | None) -> str | None:
    """What the file names; None where it names none, or is no TOML."""
    import tomllib

    try:
        value: Any = tomllib.loads((data or b"").decode("utf-8-sig")).get("adapter")
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _text(data: bytes) -> str:
    return data.decode("utf-8")  # with its mark of order and its line ends, to be the same again


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(journal: Journal) -> None:
    path = journal_path()
    found = {
        "stack": [asdict(entry) for entry in journal.stack],
        "history": [asdict(event) for event in journal.history[-KEPT:]],
    }
    try:
        with replacing(path) as part:
            part.touch(mode=0o600)
            part.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise AdoptionError(
            f"{path} cannot be written ({error.strerror or error}), so nothing was changed: make "
            "room or make it writable, and try again."
        ) from error


@contextmanager
def _alone() -> Iterator[None]:
    """One window at a time; the other one needs milliseconds."""
    folder = journal_path().parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        end = time.monotonic() + _WAIT_SECONDS
        while (lock := try_lock(folder / "adopted.lock")) is None:
            if time.monotonic() > end:
                raise AdoptionError("Another window is changing what answers: try again.")
            time.sleep(0.02)
    except OSError as error:
        raise AdoptionError(
            f"{folder} cannot be written ({error.strerror or error}): make it writable."
        ) from error
    try:
        yield
    finally:
        os.close(lock)
