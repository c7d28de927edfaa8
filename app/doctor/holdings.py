"""What is installed: models whole or not, adapters with or without their base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from openchat_local.app.doctor.finding import Finding
from openchat_local.app.engine import installed_adapters, installed_models, model_path
from openchat_local.app.settings.remote_models import remote_options
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library import InstalledModel, ModelLibrary, model_name
from openchat_local.models.library.adapter_file import AdapterCard, is_base
from openchat_local.models.memory import (
    DEFAULT_CONTEXT,
    machine_memory,
    predict_from_shape,
    shape_of,
    verdict,
)
from openchat_local.models.units import memory_in_words, size_in_words

AGAIN = "Remove it with openchat-local models remove, and pull or add it again."


def chosen_model() -> Iterator[Finding]:
    """The model that a chat would use now: is it there, and does it fit."""
    from openchat_local.app.settings.model import SettingsError, load_settings

    try:
        settings = load_settings()
    except SettingsError:
        return  # told by the check of the settings
    if (remote := remote_options(settings)) is not None:
        text = f"{settings.model} answers at {remote.address.base}, which was not asked."
        yield Finding("model", "ok", text, facts={"name": settings.model, "file": None})
        return
    path = model_path(settings.model)
    file = read_gguf(path)
    context = settings.context or min(file.context_length or DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    # The size of the file, not of its tensors: the same number as in the list of models.
    kv_type = settings.kv.type
    need = predict_from_shape(shape_of(file), file.file_size, context, kv_type=kv_type).total
    machine = machine_memory()
    found = verdict(need, machine)
    name = model_name(path)
    text = (
        f"{name} ({size_in_words(file.file_size)}) needs {memory_in_words(need)} of memory at "
        f"{context:,} tokens and {memory_in_words(machine.available)} are free: it {_reads(found)}."
    )
    facts = {
        "name": name, "file": str(path), "context": context, "need": need, "fit": found,
    }  # fmt: skip
    if found == "fits":
        yield Finding("model", "ok", text, facts=facts)
    elif found == "tight":
        yield Finding("model", "note", text, "Close other programs, or set --context lower.", facts)
    else:
        advice = "Choose a smaller model or quantisation: openchat-local models list."
        yield Finding("model", "problem", text, advice, facts)


def models(verify: bool) -> Iterator[Finding]:
    """Every installed model's header, and with `verify` every byte."""
    library = installed_models()
    found, faults = library.scan()
    for fault in faults:
        yield Finding("models", "problem", str(fault))
    for model in found:
        yield _examined(library, model, verify)
    if not found and not faults:
        yield Finding("models", "ok", "None is installed beside what packages bring.")


def adapters() -> Iterator[Finding]:
    """Every adapter's header, and whether the model it was trained on is here."""
    library = installed_adapters()
    names = library.names()
    bases = _bases() if names else {}
    for name in names:
        try:
            card = library.info(name).file.card
        except OpenChatError as error:
            yield Finding(
                "adapters", "problem", str(error), f"openchat-local adapters remove {name}"
            )
            continue
        base = card.base_name or "an unknown model"
        if not _has_base(card, bases):
            yield Finding(
                "adapters", "note", f"{name} was trained on {base}, which is not installed.",
                "Add that model with openchat-local models add or pull, in any quantisation.",
                {"name": name, "base": card.base_name},
            )  # fmt: skip
        else:
            yield Finding("adapters", "ok", f"{name}, for {base}.", facts={"name": name})
    if not names:
        yield Finding("adapters", "ok", "None is installed.")


def _examined(library: ModelLibrary, model: InstalledModel, verify: bool) -> Finding:
    card = model.card
    facts = {"name": card.reference, "file": str(model.path), "bytes": card.bytes}
    try:
        size = read_gguf(model.usable_path()).file_size
        if size != card.bytes:
            text = f"{card.reference} is {size:,} bytes long and was {card.bytes:,}."
            return Finding("models", "problem", text, AGAIN, facts)
        if verify:
            card = library.verify(model).card
    except OpenChatError as error:
        return Finding("models", "problem", str(error), AGAIN, facts)
    how = "every byte" if verify else "its header"
    text = f"{card.reference} ({size_in_words(card.bytes)}) is whole by {how}; hash checked "
    text += f"{card.verified[:10]}."
    return Finding("models", "ok", text, facts=facts | {"verified": card.verified})


def _bases() -> dict[str, Path]:
    """All models that a chat could use by name: their files by their fingerprints."""
    from openchat_local.models.library import installed_path
    from openchat_local.models.library.catalog import catalog

    found = {model.card.fingerprint: model.path for model in installed_models().models()}
    for known in catalog().values():
        path: Path | None = installed_path(known) if known.package else None
        if path is not None:
            found[read_gguf(path).fingerprint] = path
    return found


def _has_base(card: AdapterCard, bases: Mapping[str, Path]) -> bool:
    """Whether one of them is what the adapter was trained on, or another quantisation of it."""
    if card.base_fingerprint is None or card.base_fingerprint in bases:
        return True
    for path in bases.values():
        with suppress(OpenChatError):  # a damaged model is told of by its own check
            if is_base(card, read_gguf(path)):
                return True
    return False


def _reads(found: str) -> str:
    return {"fits": "fits", "tight": "is tight"}.get(found, "does not fit")
