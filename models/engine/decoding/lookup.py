"""Where the last tokens occurred before, and what followed them there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

LONG, SHORT = 5, 2  # tokens of the two keys that a place is found by
# After a change a copy goes on near where it broke off: so many tokens of the source are
# searched, for so many tokens of the reply.
NEAR, PATIENCE = 48, 32
COUNTED = 32  # no more agreeing tokens are counted than that


class PromptLookup:
    """A sequence of token ids that knows at every token what may come next: what followed
    where the last tokens occurred before.

    Two hash tables lead from the last LONG and the last SHORT tokens to their latest earlier
    place; a token more costs the same however long the sequence is. A place that keeps being
    right is followed, so that of two copies the one that was begun is gone on with.
    """

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._tokens: list[int] = []
        self._long: dict[int, int] = {}
        self._short: dict[int, int] = {}
        self._place = -1  # of the token that is expected next; -1 for none
        self._broken = -1  # the place where a long copy broke off, while it is remembered
        self._broken_since = 0
        self.agreeing = 0  # how many tokens before that place are the last ones, up to COUNTED
        self.resumed = False  # whether that place is where a copy goes on after a change
        self.extend(ids)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, ids: Iterable[int]) -> None:
        """Many tokens at once: a prompt, or what else the reply may repeat."""
        tokens = self._tokens
        first = len(tokens)
        tokens.extend(ids)
        for size, table in ((LONG, self._long), (SHORT, self._short)):
            # The tokens at the very end have no follower yet, and are not keys.
            places = range(max(size, first), len(tokens))
            shifted = [tokens[places.start - size + offset :] for offset in range(size)]
            table.update(zip(map(hash, zip(*shifted, strict=False)), places, strict=False))
        self._place, self.agreeing = -1, 0
        self._find()

    def append(self, token: int) -> bool | None:
        """The next token. Whether it is the one that was expected; None if none was."""
        tokens, place = self._tokens, self._place
        end = len(tokens)
        if end >= LONG:
            self._long[hash(tuple(tokens[-LONG:]))] = end
        if end >= SHORT:
            self._short[hash(tuple(tokens[-SHORT:]))] = end
        tokens.append(token)
        if place < 0:
            self._find()
            return None
        if tokens[place] == token:
            self._place = place + 1
            self.agreeing = min(self.agreeing + 1, COUNTED)
            if self.agreeing < LONG:
                self._find()
            else:
                self.resumed = False
            return True
        if self.agreeing >= LONG:
            self._broken, self._broken_since = place, end
        self._place, self.agreeing = -1, 0
        self._find()
        return False

    def propose(self, most: int) -> list[int]:
        """What may come next, at most so many tokens; none where nothing is expected. A place
        close to the end is a period, and gone on with as one."""
        if self._place < 0 or most <= 0:
            return []
        following = self._tokens[self._place : self._place + most]
        while len(following) < most:
            following += following[: most - len(following)]
        return following

    def _find(self) -> None:
        """Look for a place where more agrees than where we are."""
        tokens = self._tokens
        place, resumed = -1, False
        if len(tokens) > LONG:
            place = self._long.get(hash(tuple(tokens[-LONG:])), -1)
        if place < 0 and self._place < 0:
            if self._broken >= 0:
                place = self._beyond_the_change()
                resumed = place >= 0
            if place < 0 and len(tokens) > SHORT:
                place = self._short.get(hash(tuple(tokens[-SHORT:])), -1)
        if place >= 0:
            found = agreeing(tokens, place)
            if found > self.agreeing:
                self._place, self.agreeing, self.resumed = place, found, resumed

    def _beyond_the_change(self) -> int:
        """The place after the last token near where a copy broke off, or -1."""
        tokens, broken = self._tokens, self._broken
        end = len(tokens) - 1
        if end - self._broken_since > PATIENCE:
            self._broken = -1
            return -1
        try:
            return tokens.index(tokens[-1], broken, min(broken + NEAR, end)) + 1
        except ValueError:
            return -1


def agreeing(tokens: Sequence[int], place: int) -> int:
    """How many tokens before `place` equal the last ones, up to COUNTED."""
    end, most = len(tokens), min(place, COUNTED)
    for count in range(most):
        if tokens[place - 1 - count] != tokens[end - 1 - count]:
            return count
    return most
