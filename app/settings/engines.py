"""Engines that are other programs, as the settings file names them."""

from __future__ import annotations

from pydantic import Field

from openchat_local.app.settings.section import Section


class NamedEngine(Section):
    """An engine that is another program, under a name."""

    url: str = Field(
        default="",
        description="Where it answers, as OpenAI's API does: https://api.example.com/v1.",
    )
    model: str = Field(
        default="", description="The model to ask for; empty is the only one that it has."
    )
    api_key_env: str | None = Field(
        default=None,
        min_length=1,
        description="The environment variable that holds the API key; the key itself is nowhere "
        "in this file.",
    )
    context: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Its context window in tokens, where the server does not tell it.",
    )
