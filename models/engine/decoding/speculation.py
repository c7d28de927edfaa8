"""Several tokens for one pass over the weights: how many drafted ones to have verified.

The tokens come from `PromptLookup`; they are verified by drawing from the logits of each row
with the reply's own sampler, so that what comes out is what plain decoding would have drawn,
whatever is drafted here. Only how fast it comes depends on this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from statistics import median

from openchat_local.models.engine.decoding.lookup import COUNTED, LONG, PromptLookup

MOST_ROWS = 32  # of a batch whose logits are asked for
# Numbers of rows that a batch is filled up to. llama.cpp's matrix code takes four at a time.
SIZES = (2, 3, 4, 8, 12, 16, 24, 32)
# Seconds that a batch with drafts may take where nobody else waits: a stream that stands still
# for longer is no pleasure to read, however much comes then.
LONGEST = 2.5
# What a batch of so many rows costs against one row, before it was measured here: about the
# least that was seen on any processor, so that each size is tried where it may pay.
_ASSUMED = ((1, 1.0), (2, 1.5), (3, 2.0), (4, 2.2), (8, 3.5), (16, 6.0), (32, 11.0))
_SAMPLES = 5  # the latest measurements of a size that count
_ENOUGH = 3
_FAR_OFF = 2.0  # times what was assumed
_DOUBTED = 1.3  # times as much a size is assumed to cost after a measurement that is far off
_RELAXED_EVERY = 4  # replies
_DISTURBED = 1.2  # times what as many batches of one row take: as a rule somebody had the cores
# One row must be measured now and then to compare with: the machine changes its speed.
_PLAIN_EVERY = 24
_MARGIN = 1.03  # drafts must promise so much more than plain decoding
_MEMORY = 48.0  # tokens that an acceptance is remembered over
_CERTAINTY = 4.0  # tokens that the acceptance assumed at first is worth

# How often the expected token comes, by how many tokens before it agree: 1, 2, from 3, 5, 9,
# 17 and 32 on. At first; a reply's own tokens correct it.
_STEPS = (1, 2, 3, 5, 9, 17, COUNTED)
_ACCEPTED_AT_FIRST = (0.2, 0.35, 0.45, 0.65, 0.8, 0.9, 0.95)
_CLASS = [max(0, sum(agreeing >= step for step in _STEPS) - 1) for agreeing in range(COUNTED + 1)]
# And where a copy goes on after a change: from 1 and 2 tokens on, until it is as long as others.
_RESUMED_AT_FIRST = (0.5, 0.7)
_RESUMED = [len(_STEPS), len(_STEPS), *[len(_STEPS) + 1] * (LONG - 2), *_CLASS[LONG:]]


class RowCosts:
    """What batches of several rows cost on this machine, learnt from the batches that replies
    need anyway: no probe delays anything, and a size that was assumed too cheap is found out
    at its first use.

    A cost is a ratio to one row at about the same time: the median of the latest measurements.
    As long as there are few of them the lowest counts, and one that is far off hardly at all, so
    that a disturbed batch decides nothing.
    """

    def __init__(self) -> None:
        self._one: deque[float] = deque(maxlen=_SAMPLES)
        self._ratios: dict[int, deque[float]] = {}
        self._replies = 0
        self._costs: list[float] = []  # by number of rows; empty when it is to be found anew

    def observe(self, rows: int, seconds: float) -> None:
        """A batch of so many rows took so long."""
        if rows == 1:
            self._one.append(seconds)
        elif self._one and rows <= MOST_ROWS:
            ratio = max(1.0, seconds / self.one)
            self._ratios.setdefault(rows, deque(maxlen=_SAMPLES)).append(ratio)
            self._costs = []

    @property
    def one(self) -> float:
        """Seconds that one row takes now, if that was measured."""
        return max(median(self._one), 1e-9) if self._one else 1e-9

    @property
    def comparable(self) -> bool:
        """Whether one row was measured often enough to compare others with."""
        return len(self._one) > 2

    def relax(self) -> None:
        """A reply begins: now and then the oldest measurement of each size is forgotten, so that
        none is ruled out for good; and sooner one that can hardly be the machine's."""
        self._replies += 1
        for rows, ratios in self._ratios.items():
            disturbed = next((ratio for ratio in ratios if ratio > _DISTURBED * rows), None)
            if disturbed is not None:
                ratios.remove(disturbed)
            elif ratios and self._replies % _RELAXED_EVERY == 0:
                ratios.popleft()
        self._costs = []

    def cost(self, rows: int) -> float:
        """What so many rows cost, in passes of one row; beyond MOST_ROWS in proportion."""
        costs = self._costs = self._costs or self._found()
        return costs[rows] if rows <= MOST_ROWS else costs[MOST_ROWS] * rows / MOST_ROWS

    def measured(self) -> dict[int, float]:
        """The median of the latest measurements, by the number of rows."""
        return {rows: median(found) for rows, found in sorted(self._ratios.items()) if found}

    def _found(self) -> list[float]:
        costs, cheaper = [0.0], 1.0
        for rows in range(1, MOST_ROWS + 1):
            assumed = _assumed(rows)
            # Where a size is cheaper than assumed, such as on a GPU, so will be those beyond it.
            costs.append(assumed * cheaper)
            if found := self._ratios.get(rows):
                costs[rows] = _judged(found, costs[rows])
                cheaper = min(1.0, costs[rows] / assumed)
        # And those below it cost no more than it.
        for rows in range(MOST_ROWS - 1, 0, -1):
            if not self._ratios.get(rows):
                costs[rows] = min(costs[rows], costs[rows + 1])
        return costs


class Acceptance:
    """How likely the expected token is, by how many tokens before it agree."""

    def __init__(self) -> None:
        self._rates = [*_ACCEPTED_AT_FIRST, *_RESUMED_AT_FIRST]
        self._weights = [_CERTAINTY] * len(self._rates)

    def observe(self, agreeing: int, resumed: bool, came: bool) -> None:
        """The expected token came, or another one: also where nothing had been drafted, so
        that it costs nothing to find out when drafting begins to pay."""
        kind = (_RESUMED if resumed else _CLASS)[agreeing]
        self._weights[kind] = min(self._weights[kind] + 1.0, _MEMORY)
        self._rates[kind] += (came - self._rates[kind]) / self._weights[kind]

    def rates(self, agreeing: int, resumed: bool) -> Iterator[float]:
        """Of the next expected token, of the one after it if that comes, and so on."""
        kinds, rates = _RESUMED if resumed else _CLASS, self._rates
        for kind in kinds[agreeing:]:
            yield rates[kind]
        while True:
            yield rates[kinds[-1]]


class Speculation:
    """Drafts for one reply."""

    def __init__(
        self,
        costs: RowCosts,
        ids: Sequence[int],
        *,
        begun: Sequence[int] = (),
        likely: Sequence[int] = (),
    ) -> None:
        """`ids` is the prompt and `begun`, at its end, what the reply has already; `likely` is
        what it may repeat though that is not in the prompt, such as the reply before it was
        edited."""
        self._costs = costs
        costs.relax()
        self._lookup = PromptLookup(likely)
        self._lookup.extend(ids[: len(ids) - len(begun)])
        self._acceptance = Acceptance()
        self._since_plain = 0
        # One by one, so that the place is known where it leaves what it was.
        self.follow(begun)

    def follow(self, tokens: Sequence[int]) -> None:
        """The reply goes on with these."""
        lookup = self._lookup
        for token in tokens:
            agreeing, resumed = lookup.agreeing, lookup.resumed
            came = lookup.append(token)
            if came is not None:
                self._acceptance.observe(agreeing, resumed, came)

    def draft(
        self, most: int, *, certain: int = 1, beside: int = 0, longest: float = LONGEST
    ) -> list[int]:
        """What to put into the next batch after the reply's `certain` tokens, at most `most`
        of it, so that it takes no more than `longest` seconds; nothing where that does not pay.
        `beside` are the rows of other replies there."""
        if self._lookup.agreeing == 0 or most <= 0:
            self._since_plain = 0
            return []
        self._since_plain += 1
        if self._since_plain > _PLAIN_EVERY or not self._costs.comparable:
            self._since_plain = 0
            return []
        most = min(most, MOST_ROWS - 1)
        count = self._best(most, certain + beside, beside, longest / self._costs.one)
        if count == 0:
            self._since_plain = 0
        return self._lookup.propose(count)

    def _best(self, most: int, rows: int, beside: int, dearest: float) -> int:
        """The number of drafts with the most tokens for its cost, which is at most `dearest`;
        tokens of other replies in the batch count as much as this one's."""
        cost, lookup = self._costs.cost, self._lookup
        rates = self._acceptance.rates(lookup.agreeing, lookup.resumed)
        best, best_speed = 0, _MARGIN * (beside + 1) / cost(rows)
        expected, survives, count = beside + 1.0, 1.0, 0
        for size in SIZES:
            if size <= rows:
                continue
            if size - rows > most or cost(size) > dearest:
                break
            while count < size - rows:
                survives *= next(rates)
                expected += survives
                count += 1
            speed = expected / cost(size)
            if speed > best_speed:
                best, best_speed = count, speed
            if survives < 0.02:
                break
        return best


def _judged(found: Collection[float], assumed: float) -> float:
    if len(found) >= _ENOUGH:
        return median(found)
    lowest = min(found)
    alone = len(found) == 1 and lowest > _FAR_OFF * assumed
    return _DOUBTED * assumed if alone else lowest


def _assumed(rows: int) -> float:
    for (fewer, cheaper), (more, dearer) in pairwise(_ASSUMED):
        if rows <= more:
            return cheaper + (dearer - cheaper) * (rows - fewer) / (more - fewer)
    return _ASSUMED[-1][1]
