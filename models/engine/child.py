"""The engine child: llama.cpp in a process of its own, told what to do through its stdin.

Three threads. The reader takes frames in and is never busy, so that a cancel or the
parent's death is seen at once; the worker (the main thread) loads, and takes steps of its
replies as long as there are any, with a look at what else has come between two of them; the
answerer makes prompts, and counts tokens, while the worker decodes.
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
    from openchat_local.models.engine.decoding.llamacpp import Model
    from openchat_local.models.engine.decoding.loading import Loaded
    from openchat_local.models.engine.decoding.service import Service
    from openchat_local.models.engine.protocol import GenerationEvent
    from openchat_local.models.engine.wire import Frame, FrameWriter
    from openchat_local.models.template import Template


# What is answered while the worker decodes, and what must not overtake a request.
_FOR_THE_ANSWERER = frozenset(
    {"render", "count", "fit", "tokenize", "pieces", "vocabulary", "adapter", "leave", "forget"}
)


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
        self._loaded: Loaded | None = None
        self._model: Model | None = None
        self._template: Template | None = None
        self._service: Service | None = None

    def serve(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._answer, daemon=True).start()
        _import_llama()
        while True:
            service = self._service
            if service is not None and service.busy and self._jobs.empty():
                try:
                    service.step()
                except Exception as error:  # noqa: BLE001 - the parent is told
                    service.give_up(error)
                continue
            frame = self._jobs.get()
            if frame["do"] == "close":
                if service is not None:
                    service.close()
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
                    if self._service is not None:
                        self._service.cancels.cancel(frame["id"])
                case "generate" | "score" | "embed" as what:
                    if self._service is not None:
                        self._service.cancels.open(frame["id"])
                    if what == "generate":
                        self._questions.put(frame)  # for its prompt
                    else:
                        self._hand_over(frame)
                case what if what in _FOR_THE_ANSWERER:
                    self._questions.put(frame)
                case "close":
                    self._closing = True
                    if self._service is not None:
                        self._service.cancels.cancel(None)
                    # Nor must it overtake what is to be forgotten, which it would write to disk.
                    # Before the model is loaded there is nothing to write, and nobody to answer.
                    if self._ready.is_set():
                        self._questions.put(frame)
                    else:
                        self._hand_over(frame)
                case _:
                    self._hand_over(frame)
        if not self._closing:
            os._exit(1)  # the parent died: end also in mid-decode

    def _hand_over(self, frame: Frame) -> None:
        """To the worker, who may be at something that can wait."""
        self._jobs.put(frame)
        if self._loaded is not None and self._loaded.beside is not None:
            self._loaded.beside.interruption()

    # The answerer's thread

    def _answer(self) -> None:
        self._ready.wait()
        while True:
            frame = self._questions.get()
            try:
                if frame["do"] == "generate":
                    self._prepare(frame)
                elif frame["do"] in ("adapter", "leave", "forget", "close"):
                    self._hand_over(frame)
                else:
                    self._out.write({"id": frame["id"], "result": self._answer_to(frame)})
            except Exception as error:  # noqa: BLE001 - the parent is told
                self._report(frame, error)

    def _prepare(self, frame: Frame) -> None:
        """Make a request's prompt, which takes its time, while the worker goes on with others."""
        from openchat_local.models.engine.wire import unpack_request
        from openchat_local.models.errors import EngineError

        service = self._service
        if service is None:
            raise EngineError("This engine was started for its vocabulary only.")
        assert self._loaded is not None
        try:
            request = unpack_request(frame)
            prompt = service.prompt(request, self._loaded.condition(request.adapter))
        except BaseException:
            service.cancels.done(frame["id"])
            raise
        request_id = frame["id"]
        self._hand_over({"do": "generate", "id": request_id, "request": request, "prompt": prompt})

    def _answer_to(self, frame: Frame) -> Any:
        from openchat_local.models.engine.decoding.plain import facts_of, pieces_of, plain_ids
        from openchat_local.models.engine.wire import unpack_conversation

        assert self._template is not None
        assert self._model is not None
        match frame["do"]:
            case "fit":
                return self._fit(frame)
            case "tokenize":
                return plain_ids(frame["text"], self._template.vocabulary)
            case "pieces":
                return pieces_of(frame["ids"], self._template.vocabulary)
            case "vocabulary":
                return asdict(facts_of(self._template))
        ids = self._template.render(unpack_conversation(frame["conversation"])).ids
        if frame["do"] == "count":
            return len(ids)
        vocabulary = self._model.vocabulary
        pieces = [vocabulary.piece(id).decode("utf-8", "replace") for id in ids]
        return {"ids": list(ids), "pieces": pieces}

    def _fit(self, frame: Frame) -> Any:
        from openchat_local.models.engine.decoding.prompting import fitted_prompt
        from openchat_local.models.engine.wire import unpack_request

        assert self._template is not None
        assert self._loaded is not None
        request, size = unpack_request(frame), self._loaded.description.context
        condition = self._loaded.condition(request.adapter)
        return asdict(fitted_prompt(self._template, request, size, condition).fitted)

    # The worker's thread

    def _work(self, frame: Frame) -> None:
        match frame["do"]:
            case "load":
                self._load(frame)
            case "generate":
                self._generate(frame)
            case "score" | "embed":
                self._do_beside(frame)
            case "adapter":
                self._set_adapter(frame)
            case "leave":
                if self._service is not None:
                    self._service.leave(frame["chat_key"])
            case "forget":
                if self._service is not None:
                    self._service.forget(frame["chat_key"])

    def _load(self, frame: Frame) -> None:
        from openchat_local.models.engine.decoding.loading import load_model
        from openchat_local.models.engine.wire import unpack_options

        options = unpack_options(frame["options"])
        loaded = load_model(options, self._progress_reporter(frame["id"]))
        self._loaded = loaded
        self._model, self._template = loaded.model, loaded.template
        self._service = loaded.service
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
        from openchat_local.models.engine.wire import pack_event

        service, request_id = self._service, frame["id"]
        assert service is not None

        def emit(event: GenerationEvent) -> None:
            self._out.write({"id": request_id, "event": pack_event(event)})

        def fail(error: Exception) -> None:
            self._report(frame, error)

        try:
            service.submit(request_id, frame["request"], emit, fail, frame["prompt"])
        except BaseException:
            service.cancels.done(request_id)
            raise

    def _do_beside(self, frame: Frame) -> None:
        from openchat_local.models.engine.decoding.side_work import job_of
        from openchat_local.models.errors import EngineError

        loaded, service = self._loaded, self._service
        if loaded is None or service is None or loaded.beside is None:
            raise EngineError("This engine was started for its vocabulary only.")

        def fail(error: Exception) -> None:
            self._report(frame, error)

        try:
            job = job_of(frame, loaded.beside, loaded.template, self._out.write, fail)
        except BaseException:
            service.cancels.done(frame["id"])
            raise
        service.scheduler.add_beside(job)

    def _report(self, frame: Frame, error: Exception) -> None:
        from openchat_local.models.errors import DoesNotFit, OpenChatError

        if "id" not in frame:  # nobody waits: a KV state that could not be written is no loss
            sys.stderr.write(f"{frame['do']}: {error}\n")
            return
        if isinstance(error, OpenChatError):
            kind, text = type(error).__name__, str(error)
        else:
            import traceback

            traceback.print_exc()
            kind, text = "EngineError", f"The engine failed ({error}): please report this."
        tokens = {"tokens": error.tokens} if isinstance(error, DoesNotFit) else {}
        self._out.write({"id": frame["id"], "error": text, "kind": kind} | tokens)


def _import_llama() -> None:
    """Import what loading needs, most of the time to the first token, while the parent is
    still finding out what to load."""
    import openchat_local.models.engine.decoding.loading  # noqa: F401


if __name__ == "__main__":
    main()
