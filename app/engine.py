"""Which model and which adapter the user means, and an engine on this machine for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from openchat_local.app.paths import adapters_dir, findings_path, models_dir, states_dir
from openchat_local.models.errors import ModelFileError, OpenChatError
from openchat_local.models.library import InstalledModel, ModelLibrary, resolve_model
from openchat_local.models.library.adapters import NO_ADAPTER, AdapterLibrary

if TYPE_CHECKING:
    from openchat_local.app.settings.model import Settings
    from openchat_local.models.engine.capabilities import RemotePlace
    from openchat_local.models.engine.connection import EngineChild
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import Engine, EngineOptions

# What a server tells a window that it opens: where its engine is asked, and with which key. With
# an underscore in front they are no settings.
SHARED_VARIABLE = "_OPENCHAT_LOCAL_SHARED_ENGINE"
SHARED_KEY_VARIABLE = "_OPENCHAT_LOCAL_SHARED_KEY"


def installed_models() -> ModelLibrary:
    """The models in the data home."""
    return ModelLibrary(models_dir())


def installed_adapters() -> AdapterLibrary:
    """The adapters in the data home."""
    return AdapterLibrary(adapters_dir())


def model_path(name: str) -> Path:
    """The file of the model that `name` means: NAME, NAME:QUANTISATION or a path.

    Raises ModelFileError when there is no such model, or it is none of this machine.
    """
    from openchat_local.app.settings.remote_models import remote_model

    if remote_model(name, ()) is not None:
        raise ModelFileError(
            f"{name} is a model of a remote engine, and this needs one whose file is here: choose "
            "one with -m, or /model in the window."
        )
    return resolve_model(name, models_dir())


def adapter_path(name: str | None) -> Path | None:
    """The file of the adapter that `name` means; None for "none" and for nothing at all.

    Raises AdapterError when there is no such adapter.
    """
    if name is None or name == NO_ADAPTER:
        return None
    return installed_adapters().resolve(name)


def adapter_scale(name: str | None) -> float:
    """What the effect of that adapter is multiplied by: 1.0 unless its owner chose otherwise."""
    return 1.0 if name is None else installed_adapters().scale(name)


def look_at_model(name: str, settings: Settings) -> None:
    """Raise ModelFileError where `name` means no model, or a file that holds none; EngineNameError
    or AddressError where it means a model of no engine: before the one that works is given up for
    it. Nobody is asked anything."""
    from openchat_local.models.gguf import read_gguf

    if place_of_model(name, settings) is None:
        read_gguf(model_path(name))


def place_of_model(name: str, settings: Settings) -> RemotePlace | None:
    """Where the model `name` answers, if that is another program. Raises EngineNameError or
    AddressError."""
    from openchat_local.app.settings.remote_models import remote_options

    options = remote_options(settings.model_copy(update={"model": name}))
    return None if options is None else options.place()


def adapters_of(model: InstalledModel) -> list[str]:
    """The names of the installed adapters that were trained on this very model."""
    library = installed_adapters()
    needing = []
    for name in library.names():
        try:
            card = library.info(name).file.card
        except OpenChatError:
            continue  # a damaged adapter needs nothing any more
        if card.base_fingerprint == model.card.fingerprint:
            needing.append(name)
    return needing


def engine_options(
    settings: Settings, *, vocab_only: bool = False, force: bool = False
) -> EngineOptions:
    """What `settings` say of an engine. `force` takes adapters of other models.

    Raises ModelFileError or AdapterError.
    """
    from openchat_local.models.engine.protocol import EngineOptions

    return EngineOptions(
        model_path=model_path(settings.model),
        context=settings.context,
        gpu_layers=settings.gpu_layers,
        threads=settings.threads,
        template=settings.template,
        states_dir=states_dir(),  # also with a budget of 0: old states go with their chats
        states_budget=settings.kv.budget_bytes,
        vocab_only=vocab_only,
        adapter=adapter_path(settings.adapter),
        adapter_scale=adapter_scale(settings.adapter),
        adapter_forced=force,
        kv_type=settings.kv.type,
        speculation=settings.engine.speculation,
        flash_attention=settings.engine.flash_attention,
        findings=findings_path(),
    )


def local_engine(
    settings: Settings,
    child: EngineChild | None = None,
    *,
    vocab_only: bool = False,
    force: bool = False,
) -> LocalEngine:
    """The engine that `settings` describe; not started yet. `force` takes adapters of other
    models. Raises ModelFileError or AdapterError."""
    from openchat_local.models.engine.local import LocalEngine

    return LocalEngine(engine_options(settings, vocab_only=vocab_only, force=force), child)


def engine_for(
    settings: Settings, child: EngineChild | None = None, *, force: bool = False
) -> Engine:
    """The engine that `settings` name, remote or in a child of ours; not started yet. A `child`
    that was spawned ahead of time and is not needed is closed.

    Raises ModelFileError or AdapterError; of a remote one EngineNameError or AddressError.
    """
    from openchat_local.app.settings.remote_models import remote_options

    if url := os.environ.get(SHARED_VARIABLE):
        return shared_engine(settings, url, child, force=force)
    options = remote_options(settings)
    if options is None:
        return local_engine(settings, child, force=force)
    from openchat_local.models.engine.remote.engine import RemoteEngine

    if child is not None:
        child.close()
    return RemoteEngine(options)


def shared_engine(
    settings: Settings, url: str, child: EngineChild | None, *, force: bool = False
) -> Engine:
    """The engine of the server at `url`, which has opened this window on its own model. Raises
    ModelFileError or AdapterError."""
    from openchat_local.models.engine.remote.address import read_address
    from openchat_local.models.engine.remote.options import RemoteOptions
    from openchat_local.models.engine.remote.shared import SharedEngine

    key_name = SHARED_KEY_VARIABLE if os.environ.get(SHARED_KEY_VARIABLE) else None
    options = RemoteOptions(read_address(url), url, key_name=key_name)
    vocabulary = local_engine(settings, child, vocab_only=True, force=force)
    return SharedEngine(options, vocabulary, installed_adapters())


def vocabulary_engine(path: Path, template: str | None = None) -> LocalEngine:
    """An engine that loads the vocabulary alone of the model at `path`, in a child process:
    llama.cpp may die of a file that lies."""
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import EngineOptions

    return LocalEngine(EngineOptions(path, vocab_only=True, template=template))
