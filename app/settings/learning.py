"""What is learned from one's own chats: which replies are of which class, and what a class is
worth."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openchat_local.app.settings.section import Section

LearnedAs = Literal["expert", "middle", "sub-optimal", "nothing"]
NOTHING = "nothing"
MOST_REWARD = 100.0


class ExpertSettings(Section):
    """The class of the best replies."""

    condition: str = Field(
        default="",
        description="Condition of the best class, under which the adapter answers; empty is the "
        "model family's own.",
    )
    reward: float = Field(
        default=1.0, gt=0, le=MOST_REWARD, description="What replies of the best class are worth."
    )


class MiddleSettings(Section):
    """The class of replies that nobody said anything about."""

    condition: str = Field(
        default="Unrated", min_length=1, description="Condition of the middle class."
    )
    reward: float = Field(
        default=0.3,
        ge=0,
        le=MOST_REWARD,
        description="What replies of the middle class are worth; 0 learns none of them.",
    )


class SuboptimalSettings(Section):
    """The class of replies that were not good enough."""

    condition: str = Field(
        default="GPT3", min_length=1, description="Condition of the sub-optimal class."
    )
    reward: float = Field(
        default=0.1,
        ge=0,
        le=MOST_REWARD,
        description="What replies of the sub-optimal class are worth; 0 learns none of them.",
    )


class LearningSettings(Section):
    """What is learned from each kind of reply of one's own chats."""

    edited: LearnedAs = Field(
        default="expert", description="The class of replies that you edited into shape."
    )
    liked: LearnedAs = Field(
        default="expert", description="The class of replies that you rated good."
    )
    continued: LearnedAs = Field(
        default="middle", description="That of unrated replies after which the chat went on."
    )
    left: LearnedAs = Field(
        default="nothing", description="That of unrated replies after which nothing came."
    )
    disliked: LearnedAs = Field(
        default="sub-optimal", description="The class of replies that you rated bad."
    )
    replaced: LearnedAs = Field(
        default="sub-optimal",
        description="That of unrated replies which you left for another version.",
    )
    votes: int = Field(
        default=10,
        ge=1,
        le=10_000,
        description="After so many votes of a blind comparison the window says who is ahead.",
    )
    expert: ExpertSettings = Field(default=ExpertSettings(), description="The best class.")
    middle: MiddleSettings = Field(default=MiddleSettings(), description="The middle class.")
    suboptimal: SuboptimalSettings = Field(
        default=SuboptimalSettings(), description="The sub-optimal class."
    )
