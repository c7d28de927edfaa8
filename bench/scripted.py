"""The chat window with an engine that says what the bench wants: `python -m bench.scripted`.

It writes code, LINES_A_CHUNK lines ten times a second, as fast as no model here would, and
notes what each chunk costs the window's process: the figures go into the file it is given.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

from openchat_local.app.paths import ensure_home
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.models.conversation import Conversation
from openchat_local.models.engine.protocol import (
    Finished,
    GenerationEvent,
    GenerationRequest,
    LoadedModel,
    PromptFitted,
    RenderedPrompt,
    TextDelta,
    Usage,
)

LINES = 5_000
LINES_A_CHUNK = 20
SECONDS_A_CHUNK = 0.1


class ScriptedEngine:
    """`Engine` without a model: five thousand lines of Python."""

    def __init__(self, report: Path) -> None:
        self._report = report
        self._cancelled = False

    def start(self) -> None:
        """There is nothing to load."""

    def load(self, on_progress: Callable[[float], None] | None = None) -> LoadedModel:
        return LoadedModel("scripted", "", "none", 8192, 8192, "chatml", None, "", 1, 0, 0, 0, 0.0)

    def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
        self._cancelled = False
        yield TextDelta("```python\n", 3)
        costs: list[float] = []
        before = time.process_time()
        for first in range(0, LINES, LINES_A_CHUNK):
            numbers = range(first, first + LINES_A_CHUNK)
            lines = (f"    value_{n} = compute({n}, 'text')  # line {n}\n" for n in numbers)
            yield TextDelta("".join(lines), 10 * LINES_A_CHUNK)
            time.sleep(SECONDS_A_CHUNK)
            now = time.process_time()
            costs.append(now - before)
            before = now
            if self._cancelled:
                break
        self._report.write_text(json.dumps(costs))
        usage = Usage(10, 0, 0, 10, LINES * 10, 0.0, 0.1, 1.0, 0.1)
        yield Finished("stop", usage, ())

    def cancel(self, request: GenerationRequest | None = None) -> None:
        self._cancelled = True

    def render(self, conversation: Conversation) -> RenderedPrompt:
        return RenderedPrompt((), ())

    def count_tokens(self, conversation: Conversation) -> int:
        return sum(4 + len(turn.content) // 4 for turn in conversation.messages)

    def fit(self, request: GenerationRequest) -> PromptFitted:
        return PromptFitted(self.count_tokens(request.conversation), 0)

    def set_adapter(self, path: Path | None, scale: float = 1.0) -> LoadedModel:
        return self.load()

    def leave(self, chat_key: str) -> None:
        """There is no KV state."""

    def forget(self, chat_key: str) -> None:
        """There is no KV state."""

    def close(self) -> None:
        """There is no child."""


if __name__ == "__main__":
    ChatApp(ensure_home(), load_settings({}), ScriptedEngine(Path(sys.argv[1]))).run()
