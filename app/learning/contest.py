"""Two who are compared blind: their votes counted, and what these are worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from openchat_local.app.chats.votes import Choice, Side, Vote
from openchat_local.app.replies.paired import Answering
from openchat_local.app.wording import counted, times

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.statistics import Interval
    from openchat_local.models.engine.protocol import AdapterChoice
    from openchat_local.models.engine.remote.options import RemoteOptions

__all__ = [
    "Choice",
    "Contest",
    "Contestant",
    "Side",
    "Tally",
    "Verdict",
    "Vote",
    "tally",
    "verdict",
]

Winner = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One who is compared. `side` has the condition of its own, which the chat's comes before,
    and before that `condition`, where it was asked for. `remote` is how a remote engine is asked,
    where it is one's; with `conditioned` False it knows no conditions, and has none."""

    side: Side
    choice: AdapterChoice
    condition: str | None = None
    remote: RemoteOptions | None = None
    conditioned: bool = True

    def answering(self, chat_condition: str | None) -> Answering:
        """How it answers in a chat with this condition; None where the chat has none."""
        side = self.side
        for condition in (self.condition, chat_condition) if self.conditioned else ():
            if condition is not None:
                side = replace(side, condition=condition.strip())
                break
        return Answering(side, self.choice, self.remote)


@dataclass(frozen=True, slots=True)
class Contest:
    """A against B."""

    a: Contestant
    b: Contestant

    def drawn(self, chat_condition: str | None, *, swapped: bool) -> tuple[Answering, Answering]:
        """Both as they answer a prompt, in the order in which they are shown."""
        a, b = self.a.answering(chat_condition), self.b.answering(chat_condition)
        return (b, a) if swapped else (a, b)


@dataclass(frozen=True, slots=True)
class Tally:
    """What votes say of A beside B."""

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0
    skipped: int = 0

    @property
    def votes(self) -> int:
        """Those that say something: skipping is no vote."""
        return self.wins + self.losses + self.ties + self.both_bad

    @property
    def compared(self) -> int:
        """Those that say how one is beside the other."""
        return self.wins + self.losses + self.ties


@dataclass(frozen=True, slots=True)
class Verdict:
    """What votes are worth. `rate` is how often A was preferred, from 0 to 1, a tie being half a
    win; None where nobody was. `better` is None where it may be chance."""

    sentence: str
    rate: float | None
    interval: Interval
    better: Winner | None


def tally(a: Side, b: Side, votes: Iterable[Vote]) -> Tally:
    """The votes on these very two, in whichever order they were shown."""
    counts = dict.fromkeys(("wins", "losses", "ties", "both_bad", "skipped"), 0)
    names = {"tie": "ties", "bad": "both_bad", "skip": "skipped"}
    for vote in votes:
        shown = vote.first.version, vote.second.version
        if shown not in ((a.version, b.version), (b.version, a.version)) or vote.choice is None:
            continue
        if vote.choice in names:
            counts[names[vote.choice]] += 1
        else:
            a_won = (vote.choice == "first") == (shown[0] == a.version)
            counts["wins" if a_won else "losses"] += 1
    return Tally(**counts)


def verdict(a: str, b: str, votes: Tally) -> Verdict:
    """What `votes` say of the two that the user calls `a` and `b`, in one sentence: the share of
    wins with its interval of 95 % (Wilson's, a tie being half a win)."""
    from openchat_local.finetune.evaluation.statistics import wilson

    wins = votes.wins + votes.ties / 2
    interval = wilson(wins, votes.compared)
    if not votes.compared:
        bad = f", both bad {times(votes.both_bad)}" if votes.both_bad else ""
        return Verdict(f"No vote says yet whether {a} or {b} is better{bad}.", None, interval, None)
    better: Winner | None = "a" if interval.low > 0.5 else "b" if interval.high < 0.5 else None
    rate = wins / votes.compared
    # Told of whoever is ahead.
    ahead, share, low, high = a, rate, interval.low, interval.high
    if rate < 0.5:
        ahead, share, low, high = b, 1 - rate, 1 - interval.high, 1 - interval.low
    if better is not None:
        end = f"{ahead} is better"
    elif rate == 0.5:
        end = "so far neither is better"
    else:
        end = "that may still be chance; more votes would tell"
    return Verdict(
        f"{_counts(a, b, votes)}: {ahead} wins {share:.0%} (between {low:.0%} and {high:.0%} with "
        f"95 % certainty); {end}.",
        rate,
        interval,
        better,
    )


def _counts(a: str, b: str, votes: Tally) -> str:
    parts = [f"{a} was better {times(votes.wins)}", f"{b} {times(votes.losses)}"]
    if votes.ties:
        parts.append(f"both alike {times(votes.ties)}")
    if votes.both_bad:
        parts.append(f"both bad {times(votes.both_bad)}")
    return f"Of {counted(votes.votes, 'vote')}, {', '.join(parts)}"
