"""Many replies from one engine, as many at once as it has sequences."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from openchat_local.models.engine.protocol import (
    Engine,
    Finished,
    GenerationRequest,
    TextDelta,
)
from openchat_local.models.errors import ContextOverflow, EngineDied, OpenChatError
from openchat_local.models.thoughts import divide

AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """The reply to request number `index`: its text, what was thought before it left out; why it
    ended ("stop", "length"; "time" where it took too long), its tokens and the seconds that it
    took. Where there is none, `error` is a sentence, and the reason "overflow" where it does
    not fit, else "error"."""

    index: int
    text: str
    reason: str
    tokens: int
    seconds: float
    error: str | None = None


def ask_all(
    engine: Engine,
    requests: Sequence[GenerationRequest],
    *,
    at_once: int = AT_ONCE,
    seconds: float | None = None,
) -> Generator[Asked, None, None]:
    """The replies as they are finished, in any order. One that cannot be had has its sentence;
    one that took longer than `seconds`, its wait for the others included, is given up.

    Raises EngineDied when the engine's process ended; closing the iterator cancels the rest.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(requests)):
        waiting.put(index)
    finished: queue.SimpleQueue[Asked | EngineDied] = queue.SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                index = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put(_ask(engine, index, requests[index], stopped, seconds))
            except EngineDied as error:
                finished.put(error)
                return

    threads = [
        threading.Thread(target=work, name=f"asking-{number}", daemon=True)
        for number in range(min(at_once, len(requests)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in requests:
            answer = finished.get()
            if isinstance(answer, EngineDied):
                raise answer
            yield answer
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _ask(
    engine: Engine,
    index: int,
    request: GenerationRequest,
    stopped: threading.Event,
    seconds: float | None,
) -> Asked:
    started = time.perf_counter()
    text: list[str] = []
    reason, tokens, thought = "cancelled", 0, False
    events = engine.generate(request)
    try:
        for event in events:
            match event:
                case TextDelta():
                    text.append(event.text)
                case Finished():
                    reason, tokens = event.reason, event.usage.generated_tokens
                    thought = event.usage.reasoning_tokens > 0
            late = seconds is not None and time.perf_counter() - started > seconds
            if stopped.is_set() or (late and not isinstance(event, Finished)):
                reason = "time" if late else reason
                break
    except EngineDied:
        raise
    except OpenChatError as error:
        reason = "overflow" if isinstance(error, ContextOverflow) else "error"
        return Asked(index, "", reason, 0, time.perf_counter() - started, str(error))
    finally:
        events.close()
    took = time.perf_counter() - started
    said = "".join(text)
    if thought:
        said = divide(said, engine.load().thoughts).answer
    return Asked(index, said, reason, tokens, took)
