"""The rows of an ablation: which classes are trained on, under which condition, at which reward.

The ladder is that of arXiv 2309.11235 (OpenChat), its table of ablations: fine-tuning on
everything, on the expert's part alone, and C-RLFT with and without its two parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from openchat_local.finetune.data.policy import ClassRule, Policy
from openchat_local.models.errors import OpenChatError

BASE = "base"
SFT_ALL, EXPERT_ONLY = "sft-all", "expert-only"
CONDITION_ONLY, REWARD_ONLY, C_RLFT = "condition-only", "reward-only", "c-rlft"

LABELS = {
    BASE: "base",
    SFT_ALL: "SFT on all",
    EXPERT_ONLY: "SFT on the expert part",
    CONDITION_ONLY: "condition only",
    REWARD_ONLY: "reward only",
    C_RLFT: "condition + reward",
}
ROWS = tuple(LABELS)


class AblationError(OpenChatError):
    """An ablation that cannot be, or cannot go on."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train on the data.

    `rules` are those of the classes that are trained on, the expert's first; `share` is that
    part of the others' conversations. Without `own_weights` only the classes' rewards count,
    whatever a conversation says of itself (but 0, which says "context only").
    """

    name: str
    label: str
    rules: tuple[ClassRule, ...]
    share: float = 1.0
    own_weights: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for recipes that teach the same: a class of no reward teaches nothing, and what
        all rewards have in common cancels out of the loss."""
        learned = [rule for rule in self.rules if rule.reward > 0]
        highest = max((rule.reward for rule in learned), default=1.0)
        rules = tuple(replace(rule, reward=rule.reward / highest) for rule in learned)
        return rules, self.share if len(rules) > 1 else 1.0, self.own_weights


@dataclass(frozen=True, slots=True)
class Sweep:
    """Recipes along one quantity: `points` are (value, recipe), a line for each of `series`."""

    name: str
    x_label: str
    series: tuple[tuple[str, tuple[tuple[str, Recipe], ...]], ...]


def check_classes(policy: Policy, path: object) -> None:
    """Raise AblationError where no class can be told to be the expert's, or none not to be."""
    first, *others = policy.classes
    if not others:
        raise AblationError(
            f"{path} has one class only ({first.name!r}): an ablation asks what the others bring, "
            "so name a file with answers of two classes or more."
        )
    if others[0].reward >= first.reward:
        raise AblationError(
            f"The classes {first.name!r} and {others[0].name!r} have the same reward, so neither "
            f"is the expert's: give one less, as in --reward {others[0].name}=0.1."
        )


def ladder(
    policy: Policy, names: Iterable[str] = ROWS, *, own_weights: bool = False
) -> list[Recipe]:
    """The rows called `names`, in the ladder's order, but the base, which is not trained.

    `policy` says what each class's own condition and reward are, `own_weights` that some
    conversations have rewards or weights of their own.
    """
    expert, *others = policy.classes
    alike = [replace(rule, condition=expert.condition) for rule in policy.classes]
    rules = {
        SFT_ALL: _equal(alike),
        EXPERT_ONLY: (replace(expert, reward=1.0),),
        CONDITION_ONLY: _equal(policy.classes),
        REWARD_ONLY: tuple(alike),
        C_RLFT: (expert, *others),
    }
    wanted = set(names)
    return [
        Recipe(name, LABELS[name], found, own_weights=own_weights and name in (REWARD_ONLY, C_RLFT))
        for name, found in rules.items()
        if name in wanted
    ]


def ratio_sweep(policy: Policy, ratios: Sequence[float]) -> Sweep:
    """C-RLFT and its row without conditions, where the others' reward is each of `ratios` of the
    expert's, whatever the data say."""
    expert = policy.expert.condition

    def recipe(base: str, ratio: float, *, own: bool) -> Recipe:
        rules = tuple(
            ClassRule(rule.name, rule.condition if own else expert, ratio if index else 1.0)
            for index, rule in enumerate(policy.classes)
        )
        return Recipe(f"{base}-ratio-{ratio:g}", f"{LABELS[base]}, 1:{ratio:g}", rules)

    series = tuple(
        (label, tuple((f"1:{ratio:g}", recipe(base, ratio, own=own)) for ratio in ratios))
        for base, label, own in ((C_RLFT, "own conditions", True),
                                 (REWARD_ONLY, "one condition", False))
    )  # fmt: skip
    return Sweep("ratios", "reward of the others", series)


def share_sweep(policy: Policy, shares: Sequence[float], *, own_weights: bool = False) -> Sweep:
    """C-RLFT and SFT on all, with each of `shares` of the conversations that are not the
    expert's."""
    series = tuple(
        (
            LABELS[base],
            tuple(
                (
                    f"{share:g}",
                    replace(
                        recipe,
                        name=f"{base}-share-{share:g}",
                        label=f"{recipe.label}, {share:.0%} of the others",
                        share=share,
                        rules=recipe.rules if share else recipe.rules[:1],
                    ),
                )
                for share in shares
            ),
        )
        for base, recipe in (
            (one.name, one) for one in ladder(policy, (SFT_ALL, C_RLFT), own_weights=own_weights)
        )
    )
    return Sweep("shares", "share of the others", series)


def distinct(recipes: Iterable[Recipe]) -> dict[str, Recipe]:
    """By the name of every recipe the one that is trained for it: the first that teaches the
    same."""
    first: dict[tuple[object, ...], Recipe] = {}
    return {recipe.name: first.setdefault(recipe.key, recipe) for recipe in recipes}


def _equal(rules: Sequence[ClassRule]) -> tuple[ClassRule, ...]:
    return tuple(replace(rule, reward=1.0) for rule in rules)
