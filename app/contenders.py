"""Words that name a contender: the model as it is, an adapter, or pairs of what it differs in."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.settings.remote_models import remote_model, with_engine
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.models.engine.protocol import Sampling
    from openchat_local.models.engine.remote.options import RemoteOptions

BASE = "base"
PATIENCE = 600.0
"""Seconds that an evaluation waits altogether for a server that asks to wait."""
_SAMPLING = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repeat_penalty": float,
    "seed": int,
    "max_tokens": int,
}
_OTHERS = ("model", "adapter", "condition", "scale", "engine")


class ContenderError(OpenChatError):
    """Words that name no contender."""


def parse_contender(
    text: str, flags: Mapping[str, Any], sampling: Sampling | None = None
) -> Contender:
    """What `text` names: "base", an adapter, MODEL@ENGINE, or pairs such as
    "adapter=mine,condition=Math Correct,temperature=0.7,model=openchat-3.5,engine=mine". `flags`
    have the model, the template, the condition and `force` where the words say nothing of them.

    Raises ContenderError, ModelFileError or AdapterError; of a remote one EngineError, too.
    """
    # A file may have any name: it is one before it is pairs.
    if "=" not in text or Path(text).expanduser().exists():
        if remote_model(text, ()) is not None:
            return contender_of(text, {"model": text}, flags, sampling)
        return contender_of(text, {"adapter": text}, flags, sampling)
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip().replace("-", "_")
        known = (*_OTHERS, *_SAMPLING)
        if not equals or name not in known or name in fields:
            wrong = "is given twice" if name in fields else "is not understood"
            raise ContenderError(
                f"{part.strip()!r} in {text!r} {wrong}: a contender is 'base', an adapter, or "
                f"pairs of {', '.join(known)}, such as 'adapter=mine,condition=Math Correct'."
            )
        fields[name] = value.strip()
    return contender_of(text, fields, flags, sampling)


def contender_of(
    label: str, fields: Mapping[str, str], flags: Mapping[str, Any], sampling: Sampling | None
) -> Contender:
    """The contender with these fields, called `label`; `flags` as in `parse_contender`.

    Raises ContenderError, ModelFileError or AdapterError.
    """
    from openchat_local.app.engine import adapter_path, model_path
    from openchat_local.app.settings.model import load_settings
    from openchat_local.app.settings.remote_models import remote_options
    from openchat_local.finetune.evaluation.contender import GREEDY, contender
    from openchat_local.models.library.adapters import NO_ADAPTER

    settings = load_settings(_overrides(fields, flags))
    options = remote_options(settings)
    if options is not None:
        return _remote(label, fields, flags, options, sampling or GREEDY)
    name = fields.get("adapter", BASE)
    path = None if name in (BASE, NO_ADAPTER, "") else adapter_path(name)
    return contender(
        label,
        model_path(settings.model),
        path,
        scale=float(_number(label, "scale", fields["scale"])) if "scale" in fields else 1.0,
        condition=fields.get("condition", flags.get("condition")),
        sampling=_drawn(label, fields, sampling or GREEDY),
        template=settings.template,
        force=flags.get("force", False),
    )


def _overrides(fields: Mapping[str, str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that these words and flags mean; what is said of an engine goes with it."""
    given: dict[str, Any] = {"template": flags.get("template")}
    model = fields.get("model", flags.get("model"))
    engine = fields.get("engine", None if "model" in fields else flags.get("engine"))
    if engine is None:
        return given | {"model": model}
    if "model" not in fields and "engine" in fields:
        model = None  # that of the flags is another engine's
    if model is not None and "@" in model:
        raise ContenderError(f"{model!r} names an engine already: leave engine={engine} away.")
    key = flags.get("api_key_env") if engine == flags.get("engine") else None
    return given | with_engine(engine, model, key, None)


def _remote(
    label: str,
    fields: Mapping[str, str],
    flags: Mapping[str, Any],
    options: RemoteOptions,
    sampling: Sampling,
) -> Contender:
    from openchat_local.finetune.evaluation.contender import remote_contender
    from openchat_local.models.engine.remote.discovery import ADAPTER
    from openchat_local.models.engine.remote.engine import RemoteEngine

    wrong = [name for name in ("template", "force") if flags.get(name)]
    wrong += [name for name in ("scale",) if name in fields]
    if wrong:
        raise ContenderError(
            f"{label} answers at {options.address.place}, which has its own way with "
            f"{' and '.join(wrong)}: leave that away."
        )
    name = fields.get("adapter", BASE)
    adapted = name not in (BASE, "none", "")
    if adapted:
        options = replace(options, model=f"{options.model}{ADAPTER}{name}")
    with closing(RemoteEngine(options)) as engine:  # which model, and what it can do
        loaded = engine.load()
    assert loaded.remote is not None
    if adapted and (why := loaded.remote.why_not("adapters")) is not None:
        raise ContenderError(why)
    condition = fields.get("condition", flags.get("condition"))
    if condition and (why := loaded.remote.why_not("conditions")) is not None:
        raise ContenderError(why)
    for name in fields:
        if (why := loaded.remote.misses(name)) is not None:
            raise ContenderError(why)
    model = loaded.name.removesuffix(f"@{options.label}")
    return remote_contender(
        loaded.name if label == BASE else label,
        replace(options, model=model, patience=PATIENCE),
        condition=condition,
        sampling=_drawn(label, fields, sampling),
    )


def _drawn(label: str, fields: Mapping[str, str], sampling: Sampling) -> Sampling:
    given = {key: _number(label, key, fields[key]) for key in _SAMPLING if key in fields}
    return replace(sampling, **given)


def _number(label: str, key: str, text: str) -> Any:
    try:
        return _SAMPLING.get(key, float)(text)
    except ValueError:
        raise ContenderError(f"{key}={text} in {label!r} is no number: give one.") from None
