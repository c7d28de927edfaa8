"""How likely tokens were, in the two shapes that clients know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openchat_local.app.server.state import Serving
from openchat_local.models.engine.protocol import Score

Pieces = Mapping[int, bytes]


async def pieces_for(serving: Serving, scores: Sequence[Score], more: Sequence[int] = ()) -> Pieces:
    """The bytes of every token in `scores`, the likeliest included, and of `more`."""
    ids = {*more}
    for score in scores:
        ids.update(score.ids)
        ids.update(id for row in score.top for id, _ in row)
    ordered = sorted(ids)
    found = await serving.bridge.ask(lambda: serving.engine.pieces(ordered))
    return dict(zip(ordered, found, strict=True))


def chat_logprobs(score: Score, pieces: Pieces, top: int, shown: str) -> dict[str, Any]:
    """Of a chat's reply, token by token, as far as its text was `shown`: a stop string was not."""
    rows = list(zip(score.ids, score.log_probabilities, score.top, strict=True))
    rows = rows[: shown_tokens(score.ids, pieces, shown)]
    content = [
        _entry(pieces[id], value)
        | {"top_logprobs": [_entry(pieces[other], likely) for other, likely in likeliest[:top]]}
        for id, value, likeliest in rows
    ]
    return {"content": content, "refusal": None}


def shown_tokens(ids: Sequence[int], pieces: Pieces, shown: str) -> int:
    """How many of `ids` have a part in the text `shown`."""
    size, at = len(shown.encode("utf-8", "replace")), 0
    written = b"".join(pieces[id] for id in ids)
    if written.startswith(b" ") and not shown.startswith(" "):
        at = -1  # SentencePiece's, in front of a reply
    for number, id in enumerate(ids):
        if at >= size:
            return number
        at += len(pieces[id])
    return len(ids)


def completion_logprobs(
    ids: Sequence[int],
    values: Sequence[float | None],
    top: Sequence[Sequence[tuple[int, float]] | None],
    pieces: Pieces,
    most: int,
) -> dict[str, Any]:
    """Of a completion: parallel lists. A token that no probability is known of, the first of all,
    has null. The token itself is among the likeliest, as the last where it is not one of them."""
    tokens = [named(pieces[id]) for id in ids]
    offsets, at = [], 0
    for id in ids:
        offsets.append(at)
        at += len(pieces[id].decode("utf-8", "replace"))
    likeliest: list[dict[str, float] | None] = []
    for name, value, row in zip(tokens, values, top, strict=True):
        if value is None or row is None:
            likeliest.append(None)
            continue
        table: dict[str, float] = {}
        for other, likely in row[:most]:
            table.setdefault(named(pieces[other]), likely)
        likeliest.append(table | {name: value})
    return {
        "tokens": tokens,
        "token_logprobs": list(values),
        "top_logprobs": likeliest if most else None,
        "text_offset": offsets,
    }


def named(piece: bytes) -> str:
    """A token's text; one that is no text by itself as "bytes:\\xe2\\x96"."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)


def _entry(piece: bytes, value: float) -> dict[str, Any]:
    return {"token": named(piece), "logprob": value, "bytes": list(piece)}
