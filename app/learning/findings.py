"""What judging an adapter found, and what that means, in sentences for whoever trained it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from openchat_local.app.wording import counted

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.statistics import Interval

FEW = 10
"""Conversations below which an interval is too narrow to rely on (see `losses.report`)."""
SURE = 0.05
NOTED = "findings"  # in the card of an adapter
FORGOTTEN = 1.0
"""Nats a token. What the base wrote greedily is by its choice the likeliest, so that any adapter
finds it less likely. One that was trained in earnest stays well below; here each token has become
less than 1/e as likely, which is another model's speech."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Losses of the same answers, nats a token: `before` and `after`. The `change` lies within
    `interval` in 95 of 100 cases; None for fewer than two conversations."""

    conversations: int
    tokens: int
    before: float
    after: float
    interval: Interval | None

    @property
    def change(self) -> float:
        """Below 0 is better."""
        return self.after - self.before

    @property
    def better(self) -> bool:
        """Whether chance alone would hardly have made it so much better."""
        return self.interval is not None and self.interval.high < 0

    @property
    def worse(self) -> bool:
        return self.interval is not None and self.interval.low > 0


@dataclass(frozen=True, slots=True)
class ClassLosses:
    """The held-out answers of one class, under its own condition: against the base, and, on those
    that neither was trained on, against the adapter in use."""

    class_name: str
    condition: str
    base: Compared
    former: Compared | None = None


@dataclass(frozen=True, slots=True)
class Questions:
    """A suite's questions: `lost` are those that the base alone answers rightly, `won` those that
    the adapter alone does."""

    suite: str
    count: int
    base_right: int
    right: int
    lost: int
    won: int

    @property
    def worse(self) -> bool:
        return _surely_more(self.lost, self.won)


@dataclass(frozen=True, slots=True)
class Replies:
    """The base's own replies to everyday prompts: `loss` under base and adapter, and of `count`
    replies of the adapter's, how many begin with the `same` sentence as the base's."""

    count: int
    same: int
    loss: Compared

    @property
    def worse(self) -> bool:
        return self.loss.interval is not None and self.loss.interval.low > FORGOTTEN


@dataclass(frozen=True, slots=True)
class Findings:
    """`classes` are the best first. `against` is the adapter that was in use, None where there was
    none or it was this one. `notes` are sentences on what could not be measured."""

    adapter: str
    scale: float
    model: str
    at: float
    against: str | None
    classes: tuple[ClassLosses, ...]
    forgetting: Questions | Replies | None
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Whether it is worse, and not by chance: on answers of the best class than the base or
        than the adapter in use, or at what the base could before."""
        best = self.classes[:1]
        losses = [one for row in best for one in (row.base, row.former) if one is not None]
        forgot = self.forgetting is not None and self.forgetting.worse
        return forgot or any(one.worse for one in losses)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What it means, the most important first."""
        return tuple(_sentences(self))

    @property
    def in_brief(self) -> str:
        """In three words or so, for a line of a list."""
        if self.worse:
            return "scored worse"
        best = self.classes[0] if self.classes else None
        if best is None:
            return "no score"
        return (
            f"{math.exp(-best.base.change):.2f}× as likely"
            if best.base.better
            else "no clear change"
        )

    def as_json(self) -> dict[str, Any]:
        """JSON values only, for `from_json`; with the sentences, for whoever reads it."""
        found = asdict(self) | {"sentences": list(self.sentences), "worse": self.worse}
        if self.forgetting is not None:
            kind = "questions" if isinstance(self.forgetting, Questions) else "replies"
            found["forgetting"] = {"by": kind, **asdict(self.forgetting)}
        return found

    @classmethod
    def from_json(cls, fields: object) -> Findings | None:
        """What `as_json` gave; None for anything else, which another version may have written."""
        try:
            return _read(fields)
        except (TypeError, ValueError, KeyError, AttributeError):
            return None


def kept_findings(facts: Mapping[str, Any]) -> Findings | None:
    """What the card of an adapter says of when it was judged last."""
    return Findings.from_json(facts.get(NOTED))


def _surely_more(these: int, those: int) -> bool:
    """Whether more questions went this way than that, and not by chance."""
    from openchat_local.finetune.evaluation.statistics import mcnemar

    return these > those and mcnemar(these, those) < SURE


def _read(fields: Any) -> Findings:
    forgetting = fields["forgetting"]
    found: Questions | Replies | None = None
    if forgetting is not None:
        rest = {key: value for key, value in forgetting.items() if key != "by"}
        if forgetting["by"] == "questions":
            found = Questions(**rest)
        else:
            found = Replies(**rest | {"loss": _compared(rest["loss"])})
    return Findings(
        str(fields["adapter"]),
        float(fields["scale"]),
        str(fields["model"]),
        float(fields["at"]),
        fields["against"],
        tuple(
            ClassLosses(
                str(one["class_name"]),
                str(one["condition"]),
                _compared(one["base"]),
                None if one["former"] is None else _compared(one["former"]),
            )
            for one in fields["classes"]
        ),
        found,
        tuple(map(str, fields["notes"])),
    )


def _compared(fields: Mapping[str, Any]) -> Compared:
    from openchat_local.finetune.evaluation.statistics import Interval

    interval = fields["interval"]
    return Compared(
        int(fields["conversations"]),
        int(fields["tokens"]),
        float(fields["before"]),
        float(fields["after"]),
        None if interval is None else Interval(*map(float, interval)),
    )


def _sentences(found: Findings) -> Iterator[str]:
    for number, one in enumerate(found.classes):
        yield _about_class(one, one.base, "the model as it is", best=number == 0)
    best = found.classes[0] if found.classes else None
    if best is not None and best.former is not None:
        yield _about_class(best, best.former, f"{found.against}, which is in use", best=True)
    match found.forgetting:
        case Questions() as asked:
            yield _about_questions(asked)
        case Replies() as replies:
            yield _about_replies(replies)
    yield from found.notes
    if found.worse:
        yield "It scored worse, so it is adopted only if you say yes twice."


def _about_class(one: ClassLosses, compared: Compared, other: str, *, best: bool) -> str:
    replies = f"{counted(compared.conversations, 'conversation')} of the class {one.class_name}"
    never = f"On {replies} that it was not trained on"
    if compared.interval is None:
        return f"{never}, its loss is {compared.change:+.3f}, which says nothing of others."
    few = ": too few to rely on" if compared.conversations < FEW else ""
    size = f"{_times(compared)} as likely ({_range(compared)}{few})"
    if compared.better:
        return f"{never}, it does better than {other}: each word comes out {size}."
    if compared.worse:
        verdict = "worse" if best else "less well"
        return f"{never}, it does {verdict} than {other}: each word comes out {size}."
    return f"{never}, nothing tells it from {other} that chance could not: each word is {size}."


def _times(compared: Compared) -> str:
    return f"{math.exp(-compared.change):.2f} times"


def _range(compared: Compared) -> str:
    assert compared.interval is not None
    low, high = (math.exp(-end) for end in reversed(compared.interval))
    return f"between {low:.2f} and {high:.2f}"


def _about_questions(asked: Questions) -> str:
    counts = (
        f"Of {counted(asked.count, 'question')} of {asked.suite}, the model as it is answers "
        f"{asked.base_right:,} rightly, and this one {asked.right:,}"
    )
    if asked.worse:
        return f"{counts}: it forgot things that the model knew."
    if _surely_more(asked.won, asked.lost):
        return f"{counts}: it got better at them."
    return f"{counts}: nothing was forgotten that this could show."


def _about_replies(replies: Replies) -> str:
    same = {0: "none gets", 1: "1 gets"}.get(replies.same, f"{replies.same:,} get")
    begins = (
        f"Of {counted(replies.count, 'everyday question')}, {same} an answer that begins as it did "
        "without the adapter"
    )
    words = f"what the model wrote then is {_times(replies.loss)} as likely now, word by word"
    if replies.loss.interval is None:
        return f"{begins}; {words}."
    few = ": too few to rely on" if replies.count < FEW else ""
    words += f" ({_range(replies.loss)}{few})"
    if replies.worse:
        return f"{begins}, and {words}: it forgot how the model spoke, and what it knew with that."
    return f"{begins}, and {words}: it has not forgotten how to speak."
