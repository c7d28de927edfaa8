"""Lessons as a model reads them: how many tokens they are, and what each of these weighs.

A child process has the vocabulary: llama.cpp may die of a file that lies, and the window goes
on while thousands of chats are counted.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from openchat_local.models.engine.wire import FrameWriter, read_frame
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import (
    how_it_ended,
    own_process_group,
    python_module,
)

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson

CHILD = "openchat_local.app.learning.weighing_child"
AT_A_TIME = 64
"""Lessons in one question: who wants to see one chat waits for no more than these."""

Runs = tuple[tuple[str, float], ...]


class WeighingError(OpenChatError):
    """The tokens of lessons cannot be counted."""


@dataclass(frozen=True, slots=True)
class WeighedLesson:
    """A lesson as the row that it becomes.

    `tokens` are all that are read, `learned` those of them that have a weight. `cut` says that
    what lies beyond the longest row is left out, `dropped` why nothing is left of it ("" where
    there is). `runs` are the row's text, piece by piece, each with the weight of its tokens;
    empty where they were not asked for.
    """

    tokens: int
    learned: int
    cut: bool = False
    dropped: str = ""
    runs: Runs = ()


class Weigher:
    """Counts for one model. Any thread may ask; one question is answered after another."""

    def __init__(self, model: Path, template: str | None = None) -> None:
        """Start the child. `model` is a GGUF file, `template` as in the settings."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            python_module(CHILD, str(model), *([template] if template else [])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            **own_process_group(),
        )
        self._writer = FrameWriter(cast("BinaryIO", self._process.stdin))
        self._one = threading.Lock()
        self._closed = False

    def weigh(self, lessons: Sequence[Lesson], *, runs: bool = False) -> list[WeighedLesson]:
        """Each lesson as a row, in their order; with `runs` its text too.

        Raises WeighingError, also where the weigher is closed meanwhile.
        """
        return [
            weighed
            for first in range(0, len(lessons), AT_A_TIME)
            for weighed in self._ask(lessons[first : first + AT_A_TIME], runs=runs)
        ]

    def _ask(self, lessons: Sequence[Lesson], *, runs: bool) -> Iterator[WeighedLesson]:
        with self._one:
            answer = None
            with suppress(OSError, ValueError):  # it is gone, and the pipe with it
                self._writer.write({"lessons": [_packed(one) for one in lessons], "runs": runs})
                answer = read_frame(cast("BinaryIO", self._process.stdout))
            if answer is None:
                raise WeighingError(self._why())
        if "problem" in answer:
            raise WeighingError(answer["problem"])
        for fields in answer["weighed"]:
            yield WeighedLesson(**fields | {"runs": tuple(map(tuple, fields["runs"]))})

    def _why(self) -> str:
        if self._closed:
            return "Counting was stopped."
        code = self._process.wait()
        with suppress(ValueError):
            how = how_it_ended(code, cast("BinaryIO", self._stderr))
            return f"The tokens cannot be counted ({how}): choose another model, or try again."
        return "Counting was stopped."

    def close(self) -> None:
        """End the child, from whichever thread; whoever waits for an answer is told."""
        self._closed = True
        self._process.kill()
        self._process.wait()
        with self._one:
            for pipe in (self._process.stdin, self._process.stdout, self._stderr):
                with suppress(OSError, ValueError):
                    cast("BinaryIO", pipe).close()


def _packed(lesson: Lesson) -> dict[str, Any]:
    return {
        "system": lesson.system_prompt,
        "turns": [[turn.role, turn.content, turn.weight] for turn in lesson.turns],
        "class": lesson.class_name,
        "condition": lesson.condition,
        "reward": lesson.reward,
    }
