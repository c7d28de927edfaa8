"""Replies that were rated good here and bad there, after the same words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from openchat_local.app.learning.feedback import Lesson
from openchat_local.app.learning.rules import EXPERT, SUBOPTIMAL


def contradictory(lessons: Sequence[Lesson]) -> int:
    """How many replies of the best class are, word for word and after the same turns, also of
    the sub-optimal one."""
    good, bad = (
        [key for lesson in lessons if lesson.class_name == name for key in _keys(lesson)]
        for name in (EXPERT, SUBOPTIMAL)
    )
    also_bad = set(bad)
    return sum(key in also_bad for key in good)


def _keys(lesson: Lesson) -> Iterator[bytes]:
    """What tells each learned reply of a row with all that stands before it."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(lesson.system_prompt).encode())
    for turn in lesson.turns:
        digest.update(repr((turn.role, turn.content)).encode())
        if turn.weight is None:
            yield digest.digest()
