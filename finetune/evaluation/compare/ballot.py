"""What a person has voted so far: kept at once, taken back, gone on with another day.

Votes are kept by the place where an answer was shown, so that a look into the file gives
nothing away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from openchat_local.finetune.evaluation.compare.pairs import Pair, Vote
from openchat_local.finetune.evaluation.rows import RowFile

_VOTES = get_args(Vote)


class Ballot:
    """The votes on `pairs`, in `rows`: a row for each vote, and one for each that was taken back.

    Pairs without anything to choose are ties of themselves, and nobody is asked.
    """

    def __init__(self, pairs: Sequence[Pair], rows: RowFile) -> None:
        self.pairs = tuple(pair for pair in pairs if not pair.same)
        self._rows = rows
        self._votes: dict[str, Vote] = {}  # by the pair's digest, in the order they were cast
        self._by_digest = {pair.digest: pair for pair in self.pairs}
        self._taken_back: Pair | None = None
        for row in rows.rows():
            digest = row.get("pair")
            if isinstance(digest, str) and digest in self._by_digest:
                self._note(digest, row.get("vote"))

    @property
    def current(self) -> Pair | None:
        """The pair to be voted on: the one whose vote was just taken back, else the first
        without one; None where all have one."""
        if self._taken_back is not None:
            return self._taken_back
        return next((pair for pair in self.pairs if pair.digest not in self._votes), None)

    @property
    def done(self) -> int:
        """How many pairs have a vote."""
        return len(self._votes)

    def vote_on(self, pair: Pair) -> Vote | None:
        """What was voted on it; None where nothing was yet."""
        return "tie" if pair.same else self._votes.get(pair.digest)

    def cast(self, vote: Vote) -> None:
        """Vote on the current pair. It is on disk when this returns. Raises OSError."""
        assert self.current is not None
        self._keep(self.current.digest, vote)

    def undo(self) -> bool:
        """Take the last vote back, and its pair is the current one again; False where there is
        none. Raises OSError."""
        if not self._votes:
            return False
        digest = next(reversed(self._votes))
        self._keep(digest, None)
        self._taken_back = self._by_digest[digest]
        return True

    def _keep(self, digest: str, vote: Vote | None) -> None:
        self._rows.append({"pair": digest, "vote": vote})
        self._note(digest, vote)

    def _note(self, digest: str, vote: object) -> None:
        self._votes.pop(digest, None)
        self._taken_back = None
        if vote in _VOTES:
            self._votes[digest] = vote  # type: ignore[assignment]
