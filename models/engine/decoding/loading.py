"""From engine options to a model that can generate (in the engine child)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import llama_cpp

from openchat_local.models.engine.decoding.llamacpp import Model
from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter, LoadedAdapters
from openchat_local.models.engine.decoding.runner import Cancels
from openchat_local.models.engine.decoding.runner_factory import RunnerFactory
from openchat_local.models.engine.decoding.service import Service
from openchat_local.models.engine.decoding.side_job import Beside
from openchat_local.models.engine.devices import gpus, load_backends
from openchat_local.models.engine.placement import decode_threads, fit_to_machine, physical_cores
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    AdapterInfo,
    EngineOptions,
    LoadedModel,
)
from openchat_local.models.engine.states import StateStore
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.gguf.kinds import check_can_chat
from openchat_local.models.library import hold, model_name
from openchat_local.models.library.adapter_file import AdapterCard, adapter_name, read_card
from openchat_local.models.memory import cache_bytes
from openchat_local.models.system.machine import main_memory, total_of
from openchat_local.models.template import Template, choose_template


class Loaded:
    """A model that is ready. `service` is None when only the vocabulary was asked for."""

    def __init__(
        self,
        options: EngineOptions,
        file: GGUFFile,
        model: Model,
        template: Template,
        runners: RunnerFactory | None,
        description: LoadedModel,
        started: float,
    ) -> None:
        self.model = model
        self.template = template
        self._options = options
        self._file = file
        self._adapters = LoadedAdapters(
            model, file, vocab_only=runners is None, force=options.adapter_forced
        )
        self._flash = runners is not None and runners.flash
        self._plain = description  # as it is without an adapter
        self._default = self._in_force(AdapterChoice())
        self.service: Service | None = None
        self.beside: Beside | None = None
        if runners is not None:
            cancels = Cancels()
            self.service = Service(
                cancels,
                runners.runner(cancels, runners.size),
                template,
                self.in_force,
                partial(runners.runner_beside, cancels),
            )
            self.beside = Beside(model, runners.side, self.in_force, cancels)
            self._adapters.in_use = self.service.adapters_in_use
        self._plain = replace(description, load_seconds=time.perf_counter() - started)
        self.description = self._plain

    def in_force(self, choice: AdapterChoice | None) -> ActiveAdapter:
        """What a request with this choice is answered with; None for what `set_adapter` chose.
        Raises AdapterError or ModelFileError."""
        return self._default if choice is None else self._in_force(choice)

    def condition(self, choice: AdapterChoice | None) -> str:
        """The condition of a request with this choice that names none; any thread may ask.
        Raises AdapterError or ModelFileError."""
        if choice is None:
            return self._default.condition
        trained = None if choice.path is None else self._adapters.condition(choice.path)
        return self._plain.default_condition if trained is None else trained

    def set_adapter(self, path: Path | None, scale: float) -> LoadedModel:
        """Put an adapter in force for requests that choose none, or none. Raises AdapterError
        or ModelFileError, and then nothing has changed."""
        chosen = self._in_force(AdapterChoice(path, scale))
        info, notes = None, self._plain.notes
        if path is not None:
            adapter = self._adapters.get(path)
            info = AdapterInfo(adapter_name(path), str(path), scale, adapter.file.card.condition)
            notes += (adapter.doubt,) if adapter.doubt else ()
            notes += tuple(_doubts(info, adapter.file.card, self.template))
        self._default = chosen
        self.template.default_condition = chosen.condition
        self.description = replace(
            self._plain, adapter=info, notes=notes, default_condition=chosen.condition
        )
        return self.description

    def _in_force(self, choice: AdapterChoice) -> ActiveAdapter:
        condition = self.condition(choice)
        if choice.path is None:
            return ActiveAdapter("", condition, self._states(""))
        adapter = self._adapters.get(choice.path)
        key = f"{adapter.digest} {choice.scale}"
        return ActiveAdapter(
            key,
            condition,
            self._states(key),
            adapter_name(choice.path),
            adapter.weights,
            choice.scale,
        )

    def _states(self, adapter: str) -> StateStore | None:
        options = self._options
        if options.states_dir is None:
            return None
        # All that makes a KV cache what it is, besides the tokens themselves.
        model, template = self._file.fingerprint, self.template.name
        version, kv_type = llama_cpp.__version__, options.kv_type
        flash = "\nflash" if self._flash else ""  # values are stored the other way round
        key = f"{model}\n{template}\n{kv_type}{flash}\n{version}\n{adapter}"
        return StateStore(options.states_dir, options.states_budget, key)


def load_model(options: EngineOptions, on_progress: Callable[[float], None]) -> Loaded:
    """Load as `options` say. Raises ModelFileError, ModelLoadError or TemplateError."""
    started = time.perf_counter()
    file = read_gguf(options.model_path)
    check_can_chat(file)
    hold(options.model_path)  # until this process ends: nobody removes the model meanwhile
    fit = None
    if not options.vocab_only:
        load_backends()
        machine = replace(main_memory(), gpu=total_of(gpus()))
        fit = fit_to_machine(file, options, machine)
    model = Model(
        file,
        gpu_layers=fit.gpu_layers if fit else 0,
        repack=fit is None or fit.repack,
        vocab_only=options.vocab_only,
        on_progress=on_progress,
    )
    template = choose_template(file, model.vocabulary, options.template)
    trained = read_card(file.metadata).condition  # of an adapter that was merged into it
    if trained is not None:
        template.default_condition = trained
    maker = None if fit is None else RunnerFactory(model, file, fit, options)
    description = LoadedModel(
        name=model_name(options.model_path),
        path=str(options.model_path),
        architecture=file.architecture,
        context=fit.context if fit else 0,
        context_trained=model.context_trained,
        template=template.name,
        template_note=template.note,
        default_condition=template.default_condition,
        threads=options.threads or decode_threads(physical_cores()),
        gpu_layers=fit.gpu_layers if fit and llama_cpp.llama_supports_gpu_offload() else 0,
        file_size=file.file_size,
        state_bytes_per_token=cache_bytes(file.kv_bytes_per_token(type_size=1), options.kv_type),
        load_seconds=0.0,  # not through yet
        notes=fit.notes if fit else (),
        sequences=maker.sequences if maker else 1,
        thoughts=template.thoughts,
        thinking_switch=template.switches_thinking,
        tools=template.tools,
    )
    loaded = Loaded(options, file, model, template, maker, description, started)
    if options.adapter is not None:
        loaded.set_adapter(options.adapter, options.adapter_scale)
    return loaded


def _doubts(info: AdapterInfo, card: AdapterCard, template: Template) -> Iterator[str]:
    """What the user should know before trusting the replies."""
    if card.base_fingerprint is None:
        yield f"The adapter {info.name} does not say which model it was trained on."
    if card.template not in (None, template.name):
        yield (
            f"The adapter {info.name} was trained with the template {card.template}, and this "
            f"model is used with {template.name}."
        )
