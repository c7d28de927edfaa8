"""Texts and token ids that clients give in place of a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openchat_local.app.server.errors import refused
from openchat_local.app.server.state import Serving

_MOST = 2048  # in one request


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as token ids, of which the first `added` (BOS, or none) were not given. `text` is
    what was given, or what the given ids say."""

    whole: tuple[int, ...]
    added: int
    text: str


def prompts_of(serving: Serving, given: Any, param: str, *, bos: bool = True) -> list[Prompt]:
    """One prompt or several: a string, token ids, or a list of either. `bos` puts BOS in front
    where the model wants it and it is not there. Blocks. Raises ApiError, EngineError."""
    return [_prompt(serving, one, param, bos) for one in texts_of(given, param)]


def texts_of(given: Any, param: str) -> list[str | tuple[int, ...]]:
    """The strings and the lists of ids in what was given. Raises ApiError."""
    several = given if isinstance(given, list) and given and not _are_ids(given) else [given]
    if len(several) > _MOST:
        raise refused(f"{param} can hold {_MOST:,} texts at most: send several requests.", param)
    found: list[str | tuple[int, ...]] = []
    for one in several:
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, list) and one and _are_ids(one):
            found.append(tuple(one))
        else:
            raise refused(f"{param} must be a string, token ids, or a list of either.", param)
    return found


def _are_ids(given: list[Any]) -> bool:
    return all(type(one) is int and 0 <= one < 2**31 for one in given)


def _prompt(serving: Serving, given: str | tuple[int, ...], param: str, bos: bool) -> Prompt:
    ids = serving.engine.tokenize(given) if isinstance(given, str) else given
    whole = with_bos(serving, ids) if bos else ids
    if not whole:
        raise refused(f"{param} is empty, and this model begins with nothing: give a text.", param)
    text = given if isinstance(given, str) else text_of(serving, ids)
    return Prompt(whole, len(whole) - len(ids), text)


def with_bos(serving: Serving, ids: tuple[int, ...]) -> tuple[int, ...]:
    """The ids behind BOS, where the model wants it and it is not there."""
    facts = serving.vocabulary
    if not facts.adds_bos or facts.bos_id is None or ids[:1] == (facts.bos_id,):
        return ids
    return (facts.bos_id, *ids)


def text_of(serving: Serving, ids: tuple[int, ...]) -> str:
    """What ids say, control tokens by their names; the space that SentencePiece puts in front
    left out. Blocks. Raises EngineError."""
    facts = serving.vocabulary
    pieces = serving.engine.pieces(ids)
    first = 1 if ids[:1] == (facts.bos_id,) else 0
    text = b"".join(pieces).decode("utf-8", "replace")
    if facts.spaced and len(pieces) > first and pieces[first].startswith(b" "):
        before = len(b"".join(pieces[:first]).decode("utf-8", "replace"))
        text = text[:before] + text[before + 1 :]
    return text
