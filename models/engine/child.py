"""The engine child: llama.cpp in a process of its own, told what to do through its stdin.

Three threads. The reader takes frames in and is never busy, so that a cancel or the
parent's death is seen at once; the worker (the main thread) loads and generates; the
answerer renders prompts and counts tokens while the worker decodes.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from openchat_local.models.system.child_process import take_over_standard_streams

if TYPE_CHECKING:
    from openchat_local.models.engine.generator import Generator
    from openchat_local.models.engine.llamacpp import Model
    from openchat_local.models.engine.loading import Loaded
    from openchat_local.models.engine.protocol import GenerationEvent
    from openchat_local.models.engine.wire import Frame, FrameWriter
    from openchat_local.models.template import Template


def main() -> None:
    """Serve the parent until it says `close` or is gone."""
    frames_in, frames_out = take_over_standard_streams()
    # Ctrl-C in the terminal is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # ggml would start a debugger before it aborts, whose chatter hides why it did.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")

    from openchat_local.models.engine.wire import FrameWriter

    Child(frames_in, FrameWriter(frames_out)).serve()
    # llama.cpp has nothing to tidy that the operating system does not.
    os._exit(0)


class Child:
    """Loads one model, then answers until the stream ends."""

    def __init__(self, frames_in: BinaryIO, out: FrameWriter) -> None:
        self._in = frames_in
        self._out = out
        self._jobs: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._closing = False
        self._turn = threading.Lock()
        self._current: int | None = None
        self._cancelled: set[int] = set()
        self._loaded: Loaded | None = None
        self._model: Model | None = None
        self._template: Template | None = None
        self._generator: Generator | None = None

    def serve(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._answer, daemon=True).start()
        _import_llama()
        while True:
            frame = self._jobs.get()
            if frame["do"] == "close":
                self._close()
                return
            try:
                self._work(frame)
            except Exception as error:  # noqa: BLE001 - the parent is told
                self._report(frame, error)

    # The reader's thread

    def _read(self) -> None:
        from openchat_local.models.engine.wire import read_frame

        while (frame := read_frame(self._in)) is not None:
            match frame["do"]:
                case "cancel":
                    self._cancel(frame["id"])
                case "render" | "count":
                    self._questions.put(frame)
                case "close":
                    self._closing = True
                    self._cancel(self._current)
                    self._jobs.put(frame)
                case _:
                    self._jobs.put(frame)
        if not self._closing:
            os._exit(1)  # the parent died: end also in mid-decode

    def _cancel(self, request: int | None) -> None:
        with self._turn:
            if request is None:
                return
            self._cancelled.add(request)
            if request == self._current and self._generator is not None:
                self._generator.context.abort.set()

    # The answerer's thread

    def _answer(self) -> None:
        self._ready.wait()
        while True:
            frame = self._questions.get()
            try:
                self._out.write({"id": frame["id"], "result": self._render(frame)})
            except Exception as error:  # noqa: BLE001 - the parent is told
                self._report(frame, error)

    def _render(self, frame: Frame) -> Any:
        from openchat_local.models.engine.wire import unpack_conversation

        assert self._template is not None
        assert self._model is not None
        lookup = self._generator.memory.lookup if self._generator else None
        conversation = unpack_conversation(frame["conversation"])
        ids = self._template.render(conversation, content_ids=lookup).ids
        if frame["do"] == "count":
            return len(ids)
        vocabulary = self._model.vocabulary
        pieces = [vocabulary.piece(id).decode("utf-8", "replace") for id in ids]
        return {"ids": list(ids), "pieces": pieces}

    # The worker's thread

    def _work(self, frame: Frame) -> None:
        match frame["do"]:
            case "load":
                self._load(frame)
            case "generate":
                self._generate(frame)
            case "adapter":
                self._set_adapter(frame)
            case "leave":
                if self._generator is not None:
                    self._generator.save(frame["chat_key"])
            case "forget":
                if self._generator is not None:
                    self._generator.forget(frame["chat_key"])

    def _load(self, frame: Frame) -> None:
        from openchat_local.models.engine.loading import load_model
        from openchat_local.models.engine.wire import unpack_options

        options = unpack_options(frame["options"])
        loaded = load_model(options, self._progress_reporter(frame["id"]))
        self._loaded = loaded
        self._model, self._template = loaded.model, loaded.template
        self._generator = loaded.generator
        self._ready.set()
        self._out.write({"id": frame["id"], "result": asdict(loaded.description)})

    def _set_adapter(self, frame: Frame) -> None:
        from pathlib import Path

        assert self._loaded is not None
        path = None if frame["path"] is None else Path(frame["path"])
        description = self._loaded.set_adapter(path, frame["scale"])
        self._out.write({"id": frame["id"], "result": asdict(description)})

    def _progress_reporter(self, request: int) -> Any:
        last = 0.0

        def report(fraction: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= 0.05:
                last = now
                self._out.write({"id": request, "progress": fraction})

        return report

    def _generate(self, frame: Frame) -> None:
        from openchat_local.models.engine.wire import pack_event, unpack_request
        from openchat_local.models.errors import EngineError

        generator = self._generator
        if generator is None:
            raise EngineError("This engine was started for its vocabulary only.")
        request_id = frame["id"]

        def emit(event: GenerationEvent) -> None:
            self._out.write({"id": request_id, "event": pack_event(event)})

        with self._turn:
            self._current = request_id
            generator.context.abort.clear()
            if request_id in self._cancelled or self._closing:
                generator.context.abort.set()
        try:
            finished = generator.reply(unpack_request(frame), emit)
        finally:
            with self._turn:
                self._current = None
                self._cancelled.discard(request_id)
        self._out.write({"id": request_id, "event": pack_event(finished)})

    def _close(self) -> None:
        if self._generator is not None:
            try:
                self._generator.save(self._generator.owner)
            except OSError as error:
                sys.stderr.write(f"KV state not written: {error}\n")

    def _report(self, frame: Frame, error: Exception) -> None:
        from openchat_local.models.errors import OpenChatError

        if "id" not in frame:  # nobody waits: a KV state that could not be written is no loss
            sys.stderr.write(f"{frame['do']}: {error}\n")
            return
        if isinstance(error, OpenChatError):
            kind, text = type(error).__name__, str(error)
        else:
            import traceback

            traceback.print_exc()
            kind, text = "EngineError", f"The engine failed ({error}): please report this."
        self._out.write({"id": frame["id"], "error": text, "kind": kind})


def _import_llama() -> None:
    """Import what loading needs, most of the time to the first token, while the parent is
    still finding out what to load."""
    import openchat_local.models.engine.loading  # noqa: F401


if __name__ == "__main__":
    main()
