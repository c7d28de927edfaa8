"""A marked prompt to token ids: only the template's own text can name a special token.

Between two special tokens all text is tokenised in one go, as a whole prompt would be, whoever
wrote it: a space or a line break of the template and the word beside it may be one token.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

from openchat_local.models.template.marked import OWN, Marked, pieces
from openchat_local.models.template.vocabulary import Vocabulary

Given = Callable[[int, str], Sequence[int] | None]
_WHITE = " \t\n\v\f\r"


@dataclass(frozen=True, slots=True)
class Token:
    """An id, and whose text it is: the number of a message, or OWN."""

    id: int
    whose: int
    special: bool = False


def tokens_of(
    prompt: Marked,
    vocabulary: Vocabulary,
    *,
    after: int | None,
    given: Given | None = None,
    drops_space: bool = False,
    replies: Container[int] = (),
) -> Iterator[Token]:
    """The tokens of `prompt`, which follows the id `after`.

    `given(message, text)` may have the ids of a whole stretch of a message; with
    `drops_space` they bring along a space that the template writes in front. A token that
    is partly a message's is the message's. White space that opens one of `replies` stays
    apart from the header's, as it was when the reply was sampled.
    """
    start = at = 0
    for text, whose in pieces(prompt):
        if whose == OWN:
            for begin, end, id in vocabulary.special_spans(text):
                for token in _plain(prompt[start : at + begin], vocabulary, after):
                    yield token
                yield Token(id, OWN, special=True)
                after, start = id, at + end
        elif given is not None and (ids := given(whose, text)) is not None:
            before = prompt[start:at]
            before = before.removesuffix(" ") if drops_space else before
            for token in _plain(before, vocabulary, after):
                after = token.id
                yield token
            for after in ids:
                yield Token(after, whose)
            start = at + len(text)
        elif whose in replies and text[0].isspace() and prompt[start:at][-1:].isspace():
            for token in _plain(prompt[start:at], vocabulary, after):
                after = token.id
                yield token
            start = at
        at += len(text)
    yield from _plain(prompt[start:], vocabulary, after)


def _plain(text: Marked, vocabulary: Vocabulary, after: int | None) -> Iterator[Token]:
    """The tokens of text in which nothing is special."""
    if vocabulary.strips_after(after):
        text = _stripped(text)
    spaced = vocabulary.spaces_after(after)
    ids = vocabulary.tokenize_content(str(text), leading_space=spaced)
    owners = _owners(text, ids, vocabulary, spaced)
    yield from (Token(id, whose) for id, whose in zip(ids, owners, strict=True))


def _stripped(text: Marked) -> Marked:
    """Without the white space in front that is the template's own."""
    for first, whose in pieces(text):
        if whose == OWN:
            return text[len(first) - len(first.lstrip(_WHITE)) :]
        break
    return text


def _owners(
    text: Marked, ids: Sequence[int], vocabulary: Vocabulary, spaced: bool
) -> Iterator[int]:
    """Whose each id is: of the message that has any of its bytes, else the template's."""
    # What could not be spelled has been replaced, one character by another.
    written = vocabulary.detokenize(ids).decode("utf-8", "replace")
    bounds: list[tuple[int, int]] = []  # where each stretch ends, in bytes, and whose it is
    at = int(spaced and bool(ids))
    end = len(written[:at].encode())
    for stretch, whose in pieces(text):
        end += len(written[at : at + len(stretch)].encode())
        at += len(stretch)
        bounds.append((end, whose))
    position = index = 0
    for id in ids:
        stop = position + len(vocabulary.piece(id))
        while index < len(bounds) - 1 and bounds[index][0] <= position:
            index += 1
        whose = bounds[index][1]
        for later in range(index + 1, len(bounds)):
            if whose != OWN or bounds[later - 1][0] >= stop:
                break
            whose = bounds[later][1]
        yield whose
        position = stop
