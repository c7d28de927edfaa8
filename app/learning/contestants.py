"""Who is compared: from what a user wrote to two that the loaded model can be."""

from __future__ import annotations

import shlex
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.app.chats.votes import Side
from openchat_local.app.contenders import BASE, contender_of, parse_contender
from openchat_local.app.engine import installed_adapters
from openchat_local.app.learning.contest import Contest, Contestant
from openchat_local.finetune.evaluation.contender import GREEDY
from openchat_local.models.errors import OpenChatError
from openchat_local.models.library.adapters import CARD

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.models.engine.protocol import LoadedModel


SAME_SAMPLING = (
    "{words} has a sampling of its own, and both answer with the chat's, so that nothing else "
    "makes the difference: leave it out."
)


class CompareError(OpenChatError):
    """Nothing can be compared so: why, and what can."""


@dataclass(frozen=True, slots=True)
class Called:
    """A contest, the words that it was asked for with, the model that was loaded, and what its
    files were then."""

    contest: Contest
    words: str
    model: str
    stamps: tuple[tuple[str, int, int], ...]

    def is_stale(self) -> bool:
        """Whether an adapter is another one by now: trained anew, or gone."""
        return _stamps(self.contest) != self.stamps


def called(words: str, loaded: LoadedModel) -> Called:
    """Those two that `words` name, as `parse_contender` understands each; one against what
    answers now, and without words the adapter that was installed last. Reads files.

    Raises CompareError, ContenderError, AdapterError, ModelFileError.
    """
    try:
        names = shlex.split(words)
    except ValueError:
        raise CompareError(f"A quotation mark in {words!r} is not closed: close it.") from None
    if len(names) > 2:
        raise CompareError(
            f"Two are compared, and {len(names)} given: name each in one word or in quotation "
            f'marks, such as /compare mine "adapter={BASE},condition=Math Correct".'
        )
    a = _contestant(names[0] if names else _newest(loaded), loaded)
    b = _contestant(names[1], loaded) if names[1:] else _now(loaded, instead_of=a)
    if a.answering(None).side.version == b.answering(None).side.version:
        raise CompareError(
            f"{a.side.label} and {b.side.label} are one and the same: name two that differ, such "
            f'as an adapter and {BASE}, or {BASE} and "adapter={BASE},condition=…".'
        )
    contest = Contest(a, b)
    return Called(contest, words, model_of(loaded), _stamps(contest))


def model_of(loaded: LoadedModel) -> str:
    """What tells the loaded model from every other: its file, or its name at a remote engine."""
    return loaded.path or loaded.name


def _contestant(words: str, loaded: LoadedModel) -> Contestant:
    # What a remote engine has loaded is named with it; a file is this machine's.
    one = parse_contender(words, {"model": model_of(loaded), "template": None})
    if one.remote is not None:
        return _of_remote(one)
    if loaded.remote is not None:
        raise CompareError(
            f"{words} is of this machine, where no model is loaded now: choose one with /model, "
            f"then compare it with {loaded.name}."
        )
    if one.model.resolve() != Path(loaded.path).resolve():
        raise CompareError(
            f"{words} is another model than {loaded.name}, and only one is in memory: compare "
            "two adapters or conditions of one model here, or two models with openchat-local "
            "eval compare."
        )
    if one.sampling != GREEDY:
        raise CompareError(SAME_SAMPLING.format(words=words))
    if "scale=" not in words:
        one = replace(one, choice=replace(one.choice, scale=_noted_scale(one.choice.path)))
    return _of_contender(one, loaded)


def _of_remote(one: Contender) -> Contestant:
    """One of a remote engine, which is asked here what it can do."""
    from openchat_local.models.engine.remote.engine import RemoteEngine

    assert one.remote is not None
    if one.sampling != GREEDY:
        raise CompareError(SAME_SAMPLING.format(words=one.label))
    with closing(RemoteEngine(one.remote)) as engine:
        loaded = engine.load()
    assert loaded.remote is not None
    side = Side(
        loaded.name, loaded.name, condition=loaded.default_condition,
        model_digest=one.model_digest,
    )  # fmt: skip
    return Contestant(
        side, one.choice, one.condition, one.remote, conditioned=loaded.remote.can.conditions
    )


def _noted_scale(path: Path | None) -> float:
    """How much of an adapter there is where it answers: what its owner has noted."""
    library = installed_adapters()
    name = path.parent.name if path is not None else None
    installed = name in library.names() and library.resolve(str(name)) == path
    return library.scale(str(name)) if installed else 1.0


def _of_contender(one: Contender, loaded: LoadedModel) -> Contestant:
    from openchat_local.models.library.adapter_file import adapter_name

    path = one.choice.path
    name = None if path is None else adapter_name(path)
    label = one.label
    if "=" not in label or label == str(path):  # as the user knows it from replies
        label = name or loaded.name
    side = Side(
        label,
        loaded.name,
        name,
        one.choice.scale if name else 1.0,
        _own_condition(path, loaded),
        one.model_digest,
        one.adapter_digest,
    )
    return Contestant(side, one.choice, one.condition)


def _own_condition(path: Path | None, loaded: LoadedModel) -> str:
    """The condition that a reply has where neither the chat nor the user names one."""
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapter_file import read_adapter, read_card
    from openchat_local.models.template.families import FAMILIES

    trained = None if path is None else read_adapter(path).card.condition
    if trained is None:  # of an adapter that was merged into the model
        trained = read_card(read_gguf(Path(loaded.path)).metadata).condition
    if trained is None:
        families = {family.name: family.default_condition for family in FAMILIES}
        trained = families.get(loaded.template, "")
    return trained.strip()


def _now(loaded: LoadedModel, *, instead_of: Contestant) -> Contestant:
    """What answers now; the model as it is, where that is the one that it is compared with."""
    if loaded.remote is not None:
        return _contestant(loaded.name, loaded)
    flags = {"model": loaded.path, "template": None}
    base = _of_contender(contender_of(BASE, {}, flags, None), loaded)
    now = loaded.adapter
    if now is None:
        return base
    fields = {"adapter": now.path, "scale": str(now.scale)}
    answers = _of_contender(contender_of(now.name, fields, flags, None), loaded)
    return base if answers.side.version == instead_of.side.version else answers


def _newest(loaded: LoadedModel) -> str:
    """The name of the adapter of this model that was installed last. Raises CompareError."""
    if loaded.remote is not None:
        raise CompareError(
            f"{loaded.name} is another program's: name two, such as /compare {loaded.name} "
            "MODEL@ENGINE."
        )
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.library.adapter_file import check_fits

    library, base = installed_adapters(), read_gguf(Path(loaded.path))
    fitting: list[tuple[int, str]] = []
    for name in library.names():
        with suppress(OpenChatError, OSError):  # damaged, of another model, or just deleted
            info = library.info(name)
            check_fits(info.file, base)
            fitting.append((info.path.stat().st_mtime_ns, name))
    if not fitting:
        raise CompareError(
            f"No adapter for {loaded.name} is installed, so there is nothing to compare it with: "
            f'train one, or name two, such as /compare {BASE} "adapter={BASE},condition=…".'
        )
    return max(fitting)[1]


def _stamps(contest: Contest) -> tuple[tuple[str, int, int], ...]:
    paths = [one.choice.path for one in (contest.a, contest.b) if one.choice.path is not None]
    # Beside an adapter lies what its owner has noted of it, its scale among that.
    return tuple(_stamp(each) for path in paths for each in (path, path.with_name(CARD)))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        about = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), about.st_size, about.st_mtime_ns
