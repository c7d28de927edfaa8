"""An adapter that is being judged, in a thread, by the window's own engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from openchat_local.app.learning.findings import Findings
    from openchat_local.app.learning.judging import Stage
    from openchat_local.models.engine.protocol import Engine


class JudgingEnded(Message):
    """An adapter has been judged, or not: the judging knows which."""

    def __init__(self, judging: Judging) -> None:
        super().__init__()
        self.judging = judging


class Judging:
    """What is judged and how far it is; `window` gets a `JudgingEnded`. The attributes are
    written by the thread and may be read at any time."""

    def __init__(self, name: str, engine: Engine, former: str | None, window: MessagePump) -> None:
        self.name = name
        self.stage: Stage | None = None
        self.findings: Findings | None = None
        self.problem: Exception | None = None
        self._engine = engine
        self._former = former
        self._window = window
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="judging", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        """Stop at the next step; nothing of it is kept."""
        self._stop.set()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        return self.running and self._stop.is_set()

    def _run(self) -> None:
        from openchat_local.app.learning.judging import judge

        try:
            self.findings = judge(
                self.name, self._engine,
                former=self._former, tell=self._tell, stopped=self._stop.is_set,
            )  # fmt: skip
        except Exception as problem:  # noqa: BLE001 - the window's thread raises a bug again
            self.problem = problem
        self._window.post_message(JudgingEnded(self))

    def _tell(self, stage: Stage) -> None:
        self.stage = stage
