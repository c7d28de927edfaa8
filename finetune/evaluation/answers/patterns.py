"""A person's own regular expression, in a process that can be stopped.

Python's `re` tries every way to match, which for some patterns doubles with each character of
the text, and cannot be interrupted from another thread. So it runs in a child process: where a
reply takes longer than some seconds, the child is killed, and the person told which pattern.
"""

from __future__ import annotations

import json
import queue
import re
import subprocess
import threading
from types import TracebackType
from typing import Self

from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.models.system.child_process import own_process_group, python_module

SECONDS = 5.0
MOST_TEXT = 50_000  # characters of a reply's end; the longest replies have some ten thousand
_CHILD = "openchat_local.finetune.evaluation.answers.pattern_child"


class TooSlow(AnswersError):
    """The pattern took too long on a text."""


def check_pattern(pattern: str) -> None:
    """Raise AnswersError unless `pattern` is a regular expression."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise AnswersError(
            f"{pattern!r} is no regular expression ({error}): mend it, such as "
            r"--match 'regex=Result: (\d+)'."
        ) from error


class PatternSearcher:
    """Finds the last match of `pattern` in texts. Used as a context manager."""

    def __init__(self, pattern: str, seconds: float = SECONDS) -> None:
        check_pattern(pattern)
        self.pattern = pattern
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def search(self, text: str) -> tuple[str, int] | None:
        """What the first group of the last match holds, or the whole match where there is no
        group or it took no part; and where the match ends. Raises TooSlow."""
        cut = max(0, len(text) - MOST_TEXT)
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(text[cut:]) + "\n")
            process.stdin.flush()
            line = self._answers.get(timeout=self._seconds)
        except (OSError, queue.Empty):
            line = ""
        if not line:
            self.close()
            raise TooSlow(
                f"The pattern {self.pattern!r} takes too long on a reply of {len(text):,} "
                "characters: give it fewer ways to match, such as no (…+)+."
            )
        found = json.loads(line)
        return None if found is None else (found[0], found[1] + cut)

    def close(self) -> None:
        """Harmless when nothing was searched."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            process = subprocess.Popen(
                python_module(_CHILD, self.pattern, str(int(self._seconds) + 1)),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
                **own_process_group(),
            )  # fmt: skip
            answers: queue.SimpleQueue[str] = queue.SimpleQueue()
            threading.Thread(target=_listen, args=(process, answers), daemon=True).start()
            self._process, self._answers = process, answers
        return self._process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _listen(process: subprocess.Popen[str], answers: queue.SimpleQueue[str]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line)
    except ValueError:  # closed meanwhile
        pass
    answers.put("")
