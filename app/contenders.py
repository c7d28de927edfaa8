"""Words that name a contender: the model as it is, an adapter, or pairs of what it differs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.models.engine.protocol import Sampling

BASE = "base"
_SAMPLING = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repeat_penalty": float,
    "seed": int,
    "max_tokens": int,
}
_OTHERS = ("model", "adapter", "condition", "scale")


class ContenderError(OpenChatError):
    """Words that name no contender."""


def parse_contender(
    text: str, flags: Mapping[str, Any], sampling: Sampling | None = None
) -> Contender:
    """What `text` names: "base", an adapter, or pairs such as
    "adapter=mine,condition=Math Correct,temperature=0.7,model=openchat-3.5". `flags` have the
    model, the template, the condition and `force` where the words say nothing of them.

    Raises ContenderError, ModelFileError or AdapterError.
    """
    # A file may have any name: it is one before it is pairs.
    if "=" not in text or Path(text).expanduser().exists():
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
    from openchat_local.finetune.evaluation.contender import GREEDY, contender
    from openchat_local.models.library.adapters import NO_ADAPTER

    settings = load_settings({"model": flags.get("model"), "template": flags.get("template")})
    name = fields.get("adapter", BASE)
    path = None if name in (BASE, NO_ADAPTER, "") else adapter_path(name)
    drawn = {key: _number(label, key, fields[key]) for key in _SAMPLING if key in fields}
    return contender(
        label,
        model_path(fields.get("model", settings.model)),
        path,
        scale=float(_number(label, "scale", fields["scale"])) if "scale" in fields else 1.0,
        condition=fields.get("condition", flags.get("condition")),
        sampling=replace(sampling or GREEDY, **drawn),
        template=settings.template,
        force=flags.get("force", False),
    )


def _number(label: str, key: str, text: str) -> Any:
    try:
        return _SAMPLING.get(key, float)(text)
    except ValueError:
        raise ContenderError(f"{key}={text} in {label!r} is no number: give one.") from None
