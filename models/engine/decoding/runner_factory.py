"""Contexts for a loaded model: the one that everybody shares, and one beside it for a while."""

from __future__ import annotations

import llama_cpp

from openchat_local.models.engine.decoding.attention import flash_is_faster
from openchat_local.models.engine.decoding.governor import ThreadGovernor
from openchat_local.models.engine.decoding.llamacpp import Context, Model
from openchat_local.models.engine.decoding.reply import CHUNK, GPU_CHUNK
from openchat_local.models.engine.decoding.runner import Cancels, Runner
from openchat_local.models.engine.decoding.side_context import SideSettings
from openchat_local.models.engine.placement import Placement, decode_threads, physical_cores
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import ModelLoadError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.memory import FLASH_BATCH, cache_bytes, predict
from openchat_local.models.system.machine import main_memory

# Of the memory that is free, what a second context may take for as long as it is needed.
_SPARE = 0.5


class RunnerFactory:
    """Contexts of one model, on this machine."""

    def __init__(
        self, model: Model, file: GGUFFile, placement: Placement, options: EngineOptions
    ) -> None:
        cores = physical_cores()
        self.size = placement.context
        self.threads = options.threads or decode_threads(cores)
        self.sequences = options.sequences if model.cuttable else 1
        self._model = model
        self._file = file
        self._speculation = options.speculation
        self._batch_threads = options.threads or cores
        self._kv_type = options.kv_type
        self._on_gpu = placement.gpu_layers > 0 and llama_cpp.llama_supports_gpu_offload()
        self.flash = self._flash(options)
        # What layers are left to the CPU beside a GPU divide their sums among the threads.
        fixed = options.threads or self._on_gpu
        self._governor = None if fixed else ThreadGovernor(self.threads)

    @property
    def side(self) -> SideSettings:
        """Of contexts that are no runners."""
        values = self._file.kv_bytes_per_token(type_size=1)
        return SideSettings(
            size=self.size,
            threads=self._batch_threads,
            on_gpu=self._on_gpu,
            kv_type=self._kv_type,
            cell_bytes=cache_bytes(values, self._kv_type),
            flash=self.flash,
        )

    def runner(self, cancels: Cancels, size: int) -> Runner:
        """A runner of `size` tokens. Raises ModelLoadError when the memory cannot be had."""
        context = Context(
            self._model,
            size=size,
            threads=self.threads if self._governor is None else self._governor.threads,
            batch_threads=self._batch_threads,
            on_gpu=self._on_gpu,
            sequences=self.sequences,
            kv_type=self._kv_type,
            flash=self.flash,
        )
        chunk = GPU_CHUNK if self._on_gpu else FLASH_BATCH if self.flash else CHUNK
        return Runner(context, chunk, cancels, self._governor, speculation=self._speculation)

    def runner_beside(self, cancels: Cancels, size: int) -> Runner | None:
        """Another runner while the first is at work; None where there is no memory for it."""
        need = predict(self._file, size, kv_type=self._kv_type)
        memory = main_memory()
        if need.kv + need.buffers > _SPARE * memory.available:
            return None
        try:
            return self.runner(cancels, size)
        except ModelLoadError:
            return None

    def _flash(self, options: EngineOptions) -> bool:
        """Whether contexts on the CPU have flash attention; a quantised cache always does."""
        if self._on_gpu or self._kv_type != "f16":
            return False
        if options.flash_attention == "auto":
            return flash_is_faster(self._file, options.findings)
        return options.flash_attention == "on"
