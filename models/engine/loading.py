"""From engine options to a model that can generate (in the engine child)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import llama_cpp

from openchat_local.models.engine.devices import gpus, load_backends
from openchat_local.models.engine.generator import CHUNK, GPU_CHUNK, Generator
from openchat_local.models.engine.governor import ThreadGovernor
from openchat_local.models.engine.llamacpp import Context, Model
from openchat_local.models.engine.placement import decode_threads, fit_to_machine, physical_cores
from openchat_local.models.engine.protocol import AdapterInfo, EngineOptions, LoadedModel
from openchat_local.models.engine.rack import AdapterRack
from openchat_local.models.engine.states import StateStore
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.gguf.kinds import check_can_chat
from openchat_local.models.library import hold, model_name
from openchat_local.models.library.adapter_file import AdapterCard, adapter_name, read_card
from openchat_local.models.system.machine import main_memory, total_of
from openchat_local.models.template import Template, choose_template


class Loaded:
    """A model that is ready. `generator` is None when only the vocabulary was asked for."""

    def __init__(
        self,
        options: EngineOptions,
        file: GGUFFile,
        model: Model,
        template: Template,
        generator: Generator | None,
        description: LoadedModel,
    ) -> None:
        self.model = model
        self.template = template
        self.generator = generator
        self.description = description
        self._options = options
        self._file = file
        self._rack = AdapterRack(
            model, file, vocab_only=generator is None, force=options.adapter_forced
        )
        self._plain = description  # as it is without an adapter

    def set_adapter(self, path: Path | None, scale: float) -> LoadedModel:
        """Put an adapter in force, or none. Raises AdapterError or ModelFileError, and then
        nothing has changed."""
        adapter = None if path is None else self._rack.get(path)
        info, notes, states_key = None, self._plain.notes, ""
        if adapter is not None and path is not None:
            info = AdapterInfo(adapter_name(path), str(path), scale, adapter.file.card.condition)
            notes += (adapter.doubt,) if adapter.doubt else ()
            notes += tuple(_doubts(info, adapter.file.card, self.template))
            states_key = f"{adapter.digest} {scale}"
        condition = self._plain.default_condition
        if info is not None and info.condition is not None:
            condition = info.condition
        if self.generator is not None:
            self.generator.set_adapter(
                adapter.weights if adapter else None,
                info.name if info else None,
                scale,
                _state_store(self._options, self._file, self.template, states_key),
            )
        self.template.default_condition = condition
        self.description = replace(
            self._plain, adapter=info, notes=notes, default_condition=condition
        )
        return self.description


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
    cores = physical_cores()
    threads = options.threads or decode_threads(cores)
    generator = None
    if fit is not None:
        on_gpu = fit.gpu_layers > 0 and llama_cpp.llama_supports_gpu_offload()
        context = Context(
            model,
            size=fit.context,
            threads=threads,
            batch_threads=options.threads or cores,
            on_gpu=on_gpu,
        )
        states = _state_store(options, file, template, "")
        # What layers are left to the CPU beside a GPU divide their sums among the threads.
        governor = None if options.threads or on_gpu else ThreadGovernor(threads)
        generator = Generator(context, template, states, governor, GPU_CHUNK if on_gpu else CHUNK)
    description = LoadedModel(
        name=model_name(options.model_path),
        path=str(options.model_path),
        architecture=file.architecture,
        context=fit.context if fit else 0,
        context_trained=model.context_trained,
        template=template.name,
        template_note=template.note,
        default_condition=template.default_condition,
        threads=threads,
        gpu_layers=fit.gpu_layers if fit and llama_cpp.llama_supports_gpu_offload() else 0,
        file_size=file.file_size,
        state_bytes_per_token=file.kv_bytes_per_token(),
        load_seconds=time.perf_counter() - started,
        notes=fit.notes if fit else (),
    )
    loaded = Loaded(options, file, model, template, generator, description)
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


def _state_store(
    options: EngineOptions, file: GGUFFile, template: Template, adapter: str
) -> StateStore | None:
    if options.states_dir is None:
        return None
    # All that makes a KV cache what it is, besides the tokens themselves.
    key = f"{file.fingerprint}\n{template.name}\nf16\n{llama_cpp.__version__}\n{adapter}"
    return StateStore(options.states_dir, options.states_budget, key)
