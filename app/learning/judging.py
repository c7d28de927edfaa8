"""Is an adapter any good? Before it is adopted: held-out losses, and what it made of the rest."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openchat_local.app.engine import adapter_path, adapter_scale, installed_adapters
from openchat_local.app.learning import forgetting
from openchat_local.app.learning.findings import NOTED, ClassLosses, Compared, Findings
from openchat_local.app.learning.lineage import installed_parent, parent_of
from openchat_local.app.paths import data_home
from openchat_local.app.printable import one_line
from openchat_local.app.settings.model import load_settings_forgivingly
from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.rows import RowStore
from openchat_local.finetune.evaluation.contender import contender
from openchat_local.finetune.evaluation.losses.by_engine import EngineLosses
from openchat_local.finetune.evaluation.losses.figures import change_between
from openchat_local.finetune.run.known import run_of
from openchat_local.models.engine.protocol import AdapterChoice, Engine
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import check_fits
from openchat_local.models.library.adapters import NO_ADAPTER, InstalledAdapter

SECONDS = 90.0
CHUNK = 4096  # tokens that are scored between two looks at the clock
_WORDS = 8  # tokens of a reply that nobody writes twice by chance


class JudgingStopped(OpenChatError):
    """Whoever asked for it does not want to know any more."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is being done, in words, and how much of that is done (0 to 1)."""

    what: str
    fraction: float


Tell = Callable[[Stage], None]


def judge(
    name: str,
    engine: Engine,
    *,
    former: str | None = None,
    seconds: float = SECONDS,
    tell: Tell = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Findings:
    """Judge the installed adapter `name` by `engine`, which has its model loaded and may be in use
    meanwhile, and keep what is found with it. `former` is the adapter that answers now.

    At most about half of `seconds` goes to the losses, and the rest to what was forgotten; each
    does a part of its work at least.
    Raises JudgingStopped, AdapterError, ModelFileError, EngineError or EngineDied.
    """
    library = installed_adapters()
    adapter = library.info(name)
    mark = _mark(adapter.path)
    loaded = engine.load()
    base = read_gguf(Path(loaded.path))
    check_fits(adapter.file, base)
    other = None if former in (None, NO_ADAPTER, name) else _other(str(former), loaded.path)

    def look(what: str, fraction: float) -> None:
        if stopped():
            raise JudgingStopped("The judging was stopped; nothing of it is kept.")
        tell(Stage(what, fraction))

    choice = AdapterChoice(adapter.path, library.scale(name))
    look("reading what was held out", 0.0)
    held_out = _held_out(adapter, other, loaded.context)
    started = time.monotonic()
    classes, speed = _losses(held_out, engine, choice, other, seconds / 2, look)
    left = max(0.0, seconds - (time.monotonic() - started))
    notes = list(held_out.notes)
    if other is not None and held_out.rows and not held_out.unseen_by_other:
        notes.append(f"{other.name}, which is in use, was trained on what was held out here.")
    suite = forgetting.installed_suite()
    if suite is None:
        what = "asking everyday questions"
        found: Any = forgetting.by_replies(
            engine, choice, lambda share: look(what, share), seconds=left
        )
    else:
        what = f"asking questions of {suite}"
        template = load_settings_forgivingly()[0].template
        bare, adapted = (
            contender(label, base.path, path, scale=choice.scale, template=template)
            for label, path in (("base", None), (name, adapter.path))
        )
        found = forgetting.by_questions(
            suite, bare, adapted, engine, lambda share: look(what, share),
            seconds=left, tokens_per_second=speed,
        )  # fmt: skip
    findings = Findings(
        name,
        choice.scale,
        loaded.name,
        time.time(),
        None if other is None else other.name,
        tuple(classes),
        found,
        tuple(notes),
    )
    look("keeping what was found", 1.0)
    if _mark(adapter.path) != mark:
        raise JudgingStopped(f"The adapter {name} was replaced meanwhile: judge the new one.")
    library.note(name, {NOTED: findings.as_json()})
    return findings


@dataclass(frozen=True, slots=True)
class _Other:
    """The adapter that answers now; `trained` are digests of the replies that it learned."""

    name: str
    choice: AdapterChoice
    trained: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The rows that neither the adapter nor what it began from was trained on, with the names and
    conditions of their classes; and which of them the other adapter has not seen either."""

    rows: Sequence[Row]
    classes: Sequence[Mapping[str, Any]]
    unseen_by_other: frozenset[int]
    notes: Sequence[str] = ()


def _other(name: str, model: str) -> _Other | None:
    """None where it is not there any more, or of another model."""
    try:
        path = adapter_path(name)
        if path is None:
            return None
        library = installed_adapters()
        adapter = library.info(name) if name in library.names() else None
        contender(name, Path(model), path)  # whether it fits
    except OpenChatError:
        return None
    trained = frozenset() if adapter is None else trained_replies(adapter)[0]
    return _Other(one_line(name), AdapterChoice(path, adapter_scale(name)), trained)


def trained_replies(adapter: InstalledAdapter) -> tuple[frozenset[bytes], bool]:
    """Digests of the replies that an adapter, and those that it began from, were trained on; and
    whether all of them are known."""
    library, known = installed_adapters(), True
    found: set[bytes] = set()
    seen: set[str] = set()
    line: InstalledAdapter | None = adapter
    while line is not None and line.name not in seen:
        seen.add(line.name)
        run = run_of(line, data_home())
        rows = None if run is None else _store(run / "data" / "train")
        known &= rows is not None
        for row in rows or ():
            found.update(_replies(row))
        parent = parent_of(line.facts)
        line = None if parent is None else installed_parent(library, parent)
        known &= parent is None or line is not None
    return frozenset(found), known


def _held_out(adapter: InstalledAdapter, other: _Other | None, context: int) -> _HeldOut:
    run = run_of(adapter, data_home())
    rows = None if run is None else _store(run / "data" / "validation")
    if run is None or rows is None:
        return _HeldOut(
            (), (), frozenset(), ["Its training run is not here: there is nothing held out."]
        )
    try:
        classes = json.loads((run / "run.json").read_text("utf-8"))["classes"]
    except (OSError, ValueError, KeyError):
        classes = adapter.facts.get("classes") or []
    notes = []
    before: frozenset[bytes] = frozenset()
    if (parent := parent_of(adapter.facts)) is not None:
        older = installed_parent(installed_adapters(), parent)
        before, all_known = (frozenset(), False) if older is None else trained_replies(older)
        if not all_known:
            notes.append(
                f"What {one_line(parent.name)} was trained on, from which this began, is not known "
                "any more: it may have seen the answers that were held out now."
            )
    kept = [row for row in rows if len(row.ids) <= context and not _seen(row, before)]
    if not len(rows):
        notes.append("Nothing was held out in its training.")
    elif not kept:
        notes.append("All that was held out had been trained on before, or is too long.")
    unseen = frozenset(
        number
        for number, row in enumerate(kept)
        if other is not None and not _seen(row, other.trained)
    )
    return _HeldOut(kept, classes, unseen, notes)


def _seen(row: Row, trained: frozenset[bytes]) -> bool:
    """Whether a reply of the row was trained on. One of a few words proves nothing by itself."""
    replies = _replies(row)
    long = [digest for digest, tokens in replies.items() if tokens >= _WORDS]
    return any(digest in trained for digest in long) or (
        not long and all(digest in trained for digest in replies)
    )


def _replies(row: Row) -> dict[bytes, int]:
    """A digest of each stretch that is trained on, whatever stands before it, and its tokens."""
    judged = np.concatenate([[False], row.weights > 0, [False]]).astype(np.int8)
    stretches = np.flatnonzero(np.diff(judged)).reshape(-1, 2).tolist()
    return {
        hashlib.blake2b(row.ids[a:b].astype("<i4").tobytes(), digest_size=16).digest(): b - a
        for a, b in stretches
    }


def _store(folder: Path) -> RowStore | None:
    try:
        return RowStore(folder)
    except (OSError, ValueError, KeyError):
        return None


def _losses(
    held_out: _HeldOut,
    engine: Engine,
    choice: AdapterChoice,
    other: _Other | None,
    seconds: float,
    look: Callable[[str, float], None],
) -> tuple[list[ClassLosses], float | None]:
    """The losses of every class, the best first, and how many tokens a second were scored."""
    choices = {"base": AdapterChoice(None), "this": choice}
    if other is not None and held_out.unseen_by_other:
        choices["other"] = other.choice
    losses = EngineLosses(engine)
    nats: dict[str, dict[int, float]] = {label: {} for label in choices}
    chunks, started, tokens = list(_chunks(held_out.rows)), time.monotonic(), 0
    for done, chunk in enumerate(chunks):
        for label, one in choices.items():
            wanted = [n for n in chunk if label != "other" or n in held_out.unseen_by_other]
            found = losses(one, [held_out.rows[number] for number in wanted])
            for index, value in found:
                look("measuring what was held out", done / len(chunks))
                nats[label][wanted[index]] = value
            tokens += sum(len(held_out.rows[number].ids) for number in wanted)
        if time.monotonic() - started > seconds:
            break
    speed = tokens / max(time.monotonic() - started, 1e-6) if tokens else None
    return [*_by_class(held_out, nats)], speed


def _chunks(rows: Sequence[Row]) -> Iterator[list[int]]:
    """The numbers of rows, so many at a time, each class in its turn: whatever is left out for
    want of time is a part of every class."""
    turns: dict[int, int] = {}
    order = []
    for number, row in enumerate(rows):
        turns[row.class_index] = turns.get(row.class_index, 0) + 1
        order.append((turns[row.class_index], row.class_index, number))
    chunk: list[int] = []
    tokens = 0
    for *_, number in sorted(order):
        chunk.append(number)
        tokens += len(rows[number].ids)
        if tokens >= CHUNK:
            yield chunk
            chunk, tokens = [], 0
    if chunk:
        yield chunk


def _by_class(held_out: _HeldOut, nats: Mapping[str, Mapping[int, float]]) -> Iterator[ClassLosses]:
    for index in sorted({row.class_index for row in held_out.rows}):
        own = [n for n in nats["base"] if held_out.rows[n].class_index == index]
        if not own:
            continue
        rule = held_out.classes[index] if index < len(held_out.classes) else {}
        both = [n for n in own if n in nats.get("other", {})]
        yield ClassLosses(
            str(rule.get("name", f"class {index + 1}")),
            str(rule.get("condition", "")),
            _compared(held_out.rows, own, nats["base"], nats["this"]),
            _compared(held_out.rows, both, nats["other"], nats["this"]) if both else None,
        )


def _compared(
    rows: Sequence[Row],
    numbers: Sequence[int],
    before: Mapping[int, float],
    after: Mapping[int, float],
) -> Compared:
    tokens = np.array([np.count_nonzero(rows[n].weights) for n in numbers], np.float64)
    olds = np.array([before[n] for n in numbers])
    change = change_between("", olds, np.array([after[n] for n in numbers]), tokens)
    total = float(tokens.sum())
    return Compared(
        len(numbers), int(total), float(olds.sum()) / total, change.loss, change.interval
    )


def _mark(path: Path) -> tuple[int, int, int]:
    """Tells a file from one that takes its place."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
