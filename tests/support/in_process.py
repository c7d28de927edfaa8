"""The engine's service in the test's own process: every step and every bit in sight."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np

from openchat_local.models.engine.decoding.governor import ThreadGovernor
from openchat_local.models.engine.decoding.llamacpp import Adapter, Context, Model
from openchat_local.models.engine.decoding.loaded_adapters import ActiveAdapter
from openchat_local.models.engine.decoding.output import Emit
from openchat_local.models.engine.decoding.reply import CHUNK
from openchat_local.models.engine.decoding.runner import Cancels, Runner
from openchat_local.models.engine.decoding.service import Service
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Finished,
    GenerationEvent,
    GenerationRequest,
    KVType,
    TextDelta,
)
from openchat_local.models.engine.states import StateStore
from openchat_local.models.template import Template


@dataclass
class Answer:
    """All that came of one request."""

    id: int
    events: list[GenerationEvent] = field(default_factory=list)
    error: Exception | None = None

    @property
    def finished(self) -> Finished:
        if self.error is not None:
            raise self.error
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last

    @property
    def over(self) -> bool:
        return self.error is not None or any(isinstance(one, Finished) for one in self.events)

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.events if isinstance(one, TextDelta))


class InProcess:
    """A service over contexts of `size` tokens. Adapters are known by their paths."""

    def __init__(
        self,
        model: Model,
        template: Template,
        *,
        size: int = 1024,
        threads: int = 2,
        sequences: int = 8,
        states: Path | None = None,
        adapters: Mapping[Path, Adapter] | None = None,
        second_runner: bool = True,
        kv_type: KVType = "f16",
        flash: bool = False,
        governor: ThreadGovernor | None = None,
    ) -> None:
        self.model = model
        self.size = size
        self._kv_type = kv_type
        self._flash = flash
        self._governor = governor
        self._threads = threads
        self._sequences = sequences if model.cuttable else 1
        self._states = states
        self._adapters = adapters or {}
        self._ids = itertools.count(1)
        self._condition = template.default_condition
        self.opened = 0
        self.cancels = Cancels()
        self.runner = self._runner(size)
        opened = self._open if second_runner else None
        self.service = Service(self.cancels, self.runner, template, self._in_force, opened)

    @property
    def context(self) -> Context:
        return self.runner.context

    def _runner(self, size: int) -> Runner:
        context = Context(
            self.model,
            size=size,
            threads=self._threads,
            batch_threads=self._threads,
            sequences=self._sequences,
            kv_type=self._kv_type,
            flash=self._flash,
        )
        return Runner(context, CHUNK, self.cancels, self._governor)

    def _open(self, size: int) -> Runner:
        self.opened += 1
        return self._runner(size)

    def _in_force(self, choice: AdapterChoice | None) -> ActiveAdapter:
        path = None if choice is None else choice.path
        key = "" if choice is None or path is None else f"{path} {choice.scale}"
        folder = self._states
        store = None if folder is None else StateStore(folder, 1 << 30, f"tiny {key}")
        if choice is None or path is None:
            return ActiveAdapter("", self._condition, store)
        return ActiveAdapter(
            key, self._condition, store, path.stem, self._adapters[path], choice.scale
        )

    def submit(self, request: GenerationRequest, emit: Emit | None = None) -> Answer:
        """Begin; nothing is decoded before the next step."""
        answer = Answer(next(self._ids))

        def heard(event: GenerationEvent) -> None:
            answer.events.append(event)
            if emit is not None and not isinstance(event, Finished):
                emit(event)

        def failed(error: Exception) -> None:
            answer.error = error

        self.cancels.open(answer.id)
        self.service.submit(answer.id, request, heard, failed)
        return answer

    def run(self, between: Callable[[], None] = lambda: None) -> None:
        """Until nothing is in progress; `between` two steps something may be done."""
        while self.service.busy:
            self.service.step()
            between()

    def reply(self, request: GenerationRequest, emit: Emit | None = None) -> Finished:
        answer = self.submit(request, emit)
        self.run()
        return answer.finished

    def replies(self, requests: Sequence[GenerationRequest]) -> list[Answer]:
        """All at once."""
        answers = [self.submit(request) for request in requests]
        self.run()
        return answers

    def logits(self) -> np.ndarray:
        """(vocabulary,) float32: what the last token was drawn from."""
        pointer = llama.llama_get_logits_ith(self.context.pointer, -1)
        return np.ctypeslib.as_array(pointer, shape=(self.model.vocabulary.n_tokens,)).copy()

    def forget_all(self) -> None:
        """Empty the cache."""
        self.runner.pool.clear()

    def close(self) -> None:
        for runner in self.service.scheduler.runners:
            runner.close()
