"""The local engine, seen from the app: starts the child, talks to it, outlives it."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from openchat_local.models import errors
from openchat_local.models.conversation import Conversation
from openchat_local.models.engine import wire
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    EngineOptions,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Heartbeat,
    LoadedModel,
    Pooling,
    PromptFitted,
    RenderedPrompt,
    Score,
    ScoreRequest,
)
from openchat_local.models.errors import DoesNotFit, EngineDied, EngineError, OpenChatError
from openchat_local.models.system.child_process import (
    LOOKS_OF_THE_ENGINE,
    how_it_ended,
    own_process_group,
    python_module,
    sharing_cores,
)

if TYPE_CHECKING:
    import numpy as np

HEARTBEAT_SECONDS = 0.5
_LEAVING_SECONDS = 15.0

_DIED: wire.Frame = {"died": True}
_DIED_LOADING = (
    "The engine ended while it loaded the model ({how}): if there was too little memory, try "
    "a smaller --context or model; else the file may be damaged, so fetch it again."
)
_DIED_WORKING = (
    "The engine ended in mid-work ({how}): what it had written is kept; send the prompt again "
    "to restart it, with a smaller --context if memory is short."
)


class EngineChild:
    """One child process and the threads that listen to it.

    Spawned before anybody knows what to load: its imports then run beside the app's own.
    """

    def __init__(self) -> None:
        # Native code writes its last words to stderr; a file keeps them without a reader.
        self._stderr_before = 0
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = subprocess.Popen(
            python_module("openchat_local.models.engine.child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=sharing_cores(LOOKS_OF_THE_ENGINE),
            **own_process_group(),
        )
        self._stdin = cast("BinaryIO", self._process.stdin)
        self._stdout = cast("BinaryIO", self._process.stdout)
        self._writer = wire.FrameWriter(self._stdin)
        self._ids = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[wire.Frame]] = {}
        self._lock = threading.Lock()
        self._dead = False
        self.pid = self._process.pid
        threading.Thread(target=self._listen, name="engine-listener", daemon=True).start()

    @property
    def alive(self) -> bool:
        return not self._dead and self._process.poll() is None

    def ask(self, frame: wire.Frame) -> tuple[int, queue.SimpleQueue[wire.Frame]]:
        """Send a request; its id, and the queue that its answers arrive in.

        When the child dies, the queue gets `{"died": True}` after all that came before.
        """
        answers: queue.SimpleQueue[wire.Frame] = queue.SimpleQueue()
        with self._lock:
            request = next(self._ids)
            if self._dead:
                answers.put(_DIED)
            self._waiting[request] = answers
            self._stderr_before = os.fstat(self._stderr.fileno()).st_size
        self.tell(frame | {"id": request})
        return request, answers

    def tell(self, frame: wire.Frame) -> None:
        """Send a frame that has no answer. A dead child is noticed by the listener."""
        with contextlib.suppress(OSError, ValueError):
            self._writer.write(frame)

    def done(self, request: int) -> None:
        """Stop listening for answers to `request`."""
        with self._lock:
            self._waiting.pop(request, None)

    def close(self) -> None:
        """Ask the child to end, after it has written what it still wants to; returns at once."""
        self.tell({"do": "close"})
        with contextlib.suppress(OSError):
            self._stdin.close()

    def wait(self, seconds: float) -> None:
        """Wait until the process has ended, but no longer than that."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def last_words(self) -> str:
        """How the process ended, and what it wrote to stderr since the last request."""
        code = self._process.wait()
        with self._lock:  # all whose replies it was writing ask at once
            return how_it_ended(code, self._stderr, self._stderr_before)

    def _listen(self) -> None:
        while (frame := wire.read_frame(self._stdout)) is not None:
            with self._lock:
                answers = self._waiting.get(frame["id"])
            if answers is not None:
                answers.put(frame)
        self._process.wait()  # reaps it
        with self._lock:
            self._dead = True
            for answers in self._waiting.values():
                answers.put(_DIED)


class LocalEngine:
    """`Engine` over an `EngineChild` that is started again when it has died."""

    def __init__(self, options: EngineOptions, child: EngineChild | None = None) -> None:
        """`child` may have been spawned ahead of time; it must not be loaded yet."""
        self.options = options
        self._spawned = child
        self._lock = threading.Lock()
        self._streams = _Streams()
        self._swap = threading.Lock()
        self._loading: _Loading | None = None
        self.loads = 0

    @property
    def pid(self) -> int | None:
        """The child's process id, or None while there is no child."""
        loading = self._loading
        return loading.child.pid if loading is not None and loading.child.alive else None

    def start(self) -> None:
        self._started()

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        return self._started().wait(on_progress)

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        with self._streams.one():
            child, model = self._ready()
            frame = {"do": "generate"} | wire.pack_request(request, model.context)
            request_id, answers = child.ask(frame)
            stream = child, request_id
            self._streams.current[stream] = request
            finished = False
            try:
                while not finished:
                    event = self._next_event(child, answers)
                    finished = isinstance(event, Finished)
                    yield event
            except OpenChatError:
                finished = True
                raise
            finally:
                self._streams.current.pop(stream, None)
                child.done(request_id)
                if not finished:
                    child.tell({"do": "cancel", "id": request_id})

    def cancel(self, request: GenerationRequest | None = None) -> None:
        for (child, request_id), asked in list(self._streams.current.items()):
            if request is None or asked is request:
                child.tell({"do": "cancel", "id": request_id})

    def score(self, requests: Sequence[ScoreRequest]) -> Generator[Score, None, None]:
        packed = [wire.pack_score_request(request) for request in requests]
        with self._streams.one():
            child, _ = self._ready()
            request_id, answers = child.ask({"do": "score", "requests": packed})
            done = False
            try:
                while True:
                    frame = _checked(child, answers.get(), _DIED_WORKING)
                    if done := "done" in frame:
                        return
                    yield from map(wire.unpack_score, frame["scores"])
            except OpenChatError:
                done = True
                raise
            finally:
                child.done(request_id)
                if not done:
                    child.tell({"do": "cancel", "id": request_id})

    def embed(
        self,
        texts: Sequence[str],
        pooling: Pooling = "mean",
        adapter: AdapterChoice | None = None,
    ) -> np.ndarray:
        with self._streams.one():
            choice = wire.pack_choice(adapter)
            result = self._question("embed", texts=list(texts), pooling=pooling, adapter=choice)
        return wire.unpack_vectors(result)

    def render(self, conversation: Conversation) -> RenderedPrompt:
        result = self._question("render", conversation=wire.pack_conversation(conversation))
        return RenderedPrompt(tuple(result["ids"]), tuple(result["pieces"]))

    def count_tokens(self, conversation: Conversation) -> int:
        count: int = self._question("count", conversation=wire.pack_conversation(conversation))
        return count

    def fit(self, request: GenerationRequest) -> PromptFitted:
        size = self.load().context
        return PromptFitted(**self._question("fit", **wire.pack_request(request, size)))

    def set_adapter(self, path: Path | None, scale: float = 1.0) -> LoadedModel:
        with self._swap:
            if self._loading is None or self._loading.over:
                return self._restarted(adapter=path, adapter_scale=scale).wait(None)
            loading = self._started()
            loading.wait(None)
            child = loading.child
            frame = {"do": "adapter", "path": path and str(path), "scale": scale}
            request_id, answers = child.ask(frame)
            try:
                result = _checked(child, answers.get(), _DIED_WORKING)["result"]
            finally:
                child.done(request_id)
            model = wire.unpack_model(result)
            with self._lock:
                if self._loading is not loading:  # it died since, and another has begun
                    raise EngineDied(_DIED_WORKING.format(how="ended in mid-change"))
                # For the next child, when this one has died.
                self.options = replace(self.options, adapter=path, adapter_scale=scale)
                loading.describe(model)
            return model

    def set_model(
        self, path: Path, on_progress: Callable[[float], None] | None = None
    ) -> LoadedModel:
        """Load another model in place of this one, without an adapter and with its own template;
        blocks. Raises ModelFileError when there is no model in the file, and then nothing has
        changed; or what `load` raises, and then the next `load` brings back the one before.
        """
        from openchat_local.models.gguf import read_gguf

        read_gguf(path)  # a look before the one that works is given up
        with self._streams.none(), self._swap:
            restarted = self._restarted(model_path=path, adapter=None, template=None)
            return restarted.wait(on_progress)

    def leave(self, chat_key: str) -> None:
        self._tell({"do": "leave", "chat_key": chat_key})

    def forget(self, chat_key: str) -> None:
        if self.options.states_dir is not None:
            from openchat_local.models.engine.states import forget_chat

            loading = self._loading
            if loading is not None:
                loading.when_the_other_left(forget_chat, self.options.states_dir, chat_key)
            forget_chat(self.options.states_dir, chat_key)
        self._tell({"do": "forget", "chat_key": chat_key})

    def close(self) -> None:
        with self._lock:
            child = self._loading.child if self._loading else self._spawned
            self._fall_back(closing=True)
            self._loading = self._spawned = None
        if child is not None:
            child.close()

    def _started(self) -> _Loading:
        with self._lock:
            loading = self._loading
            if loading is None or loading.over:
                self._fall_back()
                child, self._spawned = self._spawned or EngineChild(), None
                loading = self._loading = _Loading(child, self.options)
                self.loads += 1
            return loading

    def _fall_back(self, *, closing: bool = False) -> None:
        """Take the options from before where the model of these could not be loaded, or will
        not be any more; with the lock held."""
        loading = self._loading
        if loading is None or loading.instead_of is None or loading.loaded:
            return
        if closing or loading.over:
            self.options = loading.instead_of

    def _restarted(self, **changes: Any) -> _Loading:
        """Another child with other options in place of this one. Both change at once: whoever
        asks for anything in between asks the new child, and waits for it."""
        with self._lock:
            self._fall_back()
            before, leaving = self.options, self._loading
            options = replace(before, **changes)
            child, self._spawned = self._spawned or EngineChild(), None
            after = None if leaving is None else leaving.child
            loading = self._loading = _Loading(child, options, instead_of=before, after=after)
            self.options = options
            self.loads += 1
        if after is not None:
            after.close()
        return loading

    def _ready(self) -> tuple[EngineChild, LoadedModel]:
        loading = self._started()
        model = loading.wait(None)
        return loading.child, model

    def _question(self, what: str, **fields: Any) -> Any:
        child, _ = self._ready()
        request_id, answers = child.ask({"do": what} | fields)
        try:
            return _checked(child, answers.get(), _DIED_WORKING)["result"]
        finally:
            child.done(request_id)

    def _next_event(
        self, child: EngineChild, answers: queue.SimpleQueue[wire.Frame]
    ) -> GenerationEvent:
        try:
            frame = answers.get(timeout=HEARTBEAT_SECONDS)
        except queue.Empty:
            return Heartbeat()
        return wire.unpack_event(_checked(child, frame, _DIED_WORKING)["event"])

    def _tell(self, frame: wire.Frame) -> None:
        loading = self._loading
        if loading is not None:
            loading.child.tell(frame)


class _Streams:
    """Replies in progress; `current` are those that the child was asked for. Models change only
    between them."""

    def __init__(self) -> None:
        self.current: dict[tuple[EngineChild, int], GenerationRequest] = {}
        self._changed = threading.Condition()
        self._count = 0
        self._closed = False

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A reply; it waits while a model changes, and for one that waits to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def none(self) -> Iterator[None]:
        """No reply: once those in progress have ended, until this does."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: self._count == 0)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class _Loading:
    """A child on its way to a loaded model; any number of threads may wait for it.

    `instead_of` are the options that stand again if it cannot load. It begins once the child
    `after` has ended: two models at once may be one too many.
    """

    def __init__(
        self,
        child: EngineChild,
        options: EngineOptions,
        *,
        instead_of: EngineOptions | None = None,
        after: EngineChild | None = None,
    ) -> None:
        self.child = child
        self.instead_of = instead_of
        self._options = options
        self._after = after
        self._then: list[Callable[[], None]] = []
        self._condition = threading.Condition()
        self._fraction = 0.0
        self._result: LoadedModel | OpenChatError | None = None
        threading.Thread(target=self._follow, name="engine-loading", daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether this child is of no more use: it died, or could not load."""
        return not self.child.alive or isinstance(self._result, OpenChatError)

    @property
    def loaded(self) -> bool:
        """Whether it has, or had, loaded the model."""
        return isinstance(self._result, LoadedModel)

    def when_the_other_left(self, act: Callable[..., None], *arguments: object) -> None:
        """Call `act` once the child before has ended, which may write a KV state until then;
        not at all where there is none, or it has ended."""
        with self._condition:
            if self._after is not None:
                self._then.append(lambda: act(*arguments))

    def wait(self, on_progress: Callable[[float], None] | None) -> LoadedModel:
        """Block until the model is loaded, or raise why it is not."""
        shown = -1.0
        while True:
            fraction, result = self._changed_from(None if on_progress is None else shown)
            if isinstance(result, OpenChatError):
                raise type(result)(str(result))
            if on_progress is not None and fraction != shown:
                shown = fraction
                on_progress(fraction)
            if result is not None:
                return result

    def describe(self, model: LoadedModel) -> None:
        """What the loaded model has become."""
        with self._condition:
            self._result = model

    def _changed_from(
        self, fraction: float | None
    ) -> tuple[float, LoadedModel | OpenChatError | None]:
        """Wait for the result or, if `fraction` is given, for progress beyond it."""
        with self._condition:
            self._condition.wait_for(
                lambda: (
                    self._result is not None
                    or (fraction is not None and self._fraction != fraction)
                )
            )
            return self._fraction, self._result

    def _follow(self) -> None:
        if self._after is not None:
            self._after.wait(_LEAVING_SECONDS)
            with self._condition:
                self._after = None
            for act in self._then:
                act()
        options = wire.pack_options(self._options)
        request, answers = self.child.ask({"do": "load", "options": options})
        result: LoadedModel | OpenChatError | None = None
        while result is None:
            frame = answers.get()
            fraction = frame.get("progress")
            try:
                if fraction is None:
                    checked = _checked(self.child, frame, _DIED_LOADING)
                    result = wire.unpack_model(checked["result"])
                    fraction = 1.0
            except OpenChatError as error:
                result = error
                self.child.close()
            with self._condition:
                self._fraction = self._fraction if fraction is None else fraction
                self._result = result
                self._condition.notify_all()
        self.child.done(request)


def _checked(child: EngineChild, frame: wire.Frame, if_dead: str) -> wire.Frame:
    """`frame`, unless it carries an error or the child's death, which are raised."""
    if frame is _DIED:
        raise EngineDied(if_dead.format(how=child.last_words()))
    if "error" in frame:
        if "tokens" in frame:
            raise DoesNotFit(frame["error"], frame["tokens"])
        kind = getattr(errors, frame["kind"], EngineError)
        raise kind(frame["error"])
    return frame
