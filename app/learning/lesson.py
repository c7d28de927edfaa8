"""What chats teach: rows to train on, and pairs of replies of which one is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from openchat_local.app.learning.rules import Judgement
from openchat_local.models.conversation import Role


@dataclass(frozen=True, slots=True)
class LessonTurn:
    """A turn of a row. `weight` 0 is context only, None is worth the reward of the row.
    `message_id` is that of the message, the first where several prompts became one turn."""

    message_id: str
    role: Role
    content: str
    weight: float | None


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training row. `condition` None is the model family's own for experts; `judgements`
    are by the ids of the replies among the turns."""

    chat_id: str
    title: str
    system_prompt: str
    turns: tuple[LessonTurn, ...]
    class_name: str
    condition: str | None
    reward: float
    judgements: Mapping[str, Judgement]

    @property
    def learned(self) -> tuple[LessonTurn, ...]:
        """The replies that have weight."""
        return tuple(turn for turn in self.turns if turn.weight is None)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to what the `turns` end with, of which one is better."""

    chat_id: str
    system_prompt: str
    turns: tuple[LessonTurn, ...]
    chosen: LessonTurn
    rejected: LessonTurn
