"""A run that becomes longer, or shorter, than it was planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from openchat_local.finetune.run.checkpoints import Progress
from openchat_local.finetune.run.directory import RunError
from openchat_local.finetune.run.plan import Plan, plan_from_json
from openchat_local.finetune.run.schedule import Schedule
from openchat_local.finetune.run.settings import RunSettings

EXTENDED = "extended"  # in run.json: since which step, and from which rate


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a run may be, counted from its very beginning; None is what it was.

    `minutes` are of training, `patience` validations without gain, 0 for any number.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    patience: int | None = None


def schedule_of(settings: RunSettings, plan: Plan, extended: Mapping[str, Any] | None) -> Schedule:
    """The learning rates of a run."""
    since = extended or {"step": 0, "rate": 0.0}
    return Schedule(
        settings.optimizer.learning_rate, plan.steps, settings.warmup, settings.floor,
        since=since["step"], since_rate=since["rate"],
    )  # fmt: skip


def extended(
    fields: Mapping[str, Any], progress: Progress, limits: Limits
) -> tuple[dict[str, Any], str | None]:
    """run.json for a run within new `limits`, and what changes in a sentence, None for nothing.

    The learning rate rises from where it is to what it would be in a run of that length, and
    falls as it would there. Raises RunError where the run is that long already.
    """
    settings = RunSettings.from_json(fields["settings"])
    given = {
        name: value
        for name in ("epochs", "steps", "minutes", "patience")
        if (value := getattr(limits, name)) is not None
    }
    changed = replace(settings, **given)
    found = dict(fields) | {"settings": changed.as_json()}
    if changed == settings:
        return found, None
    patience = changed.patience
    if patience and progress.stale >= patience:
        raise RunError(
            f"The run stopped early, after {progress.stale} validations without gain: "
            f"give --patience {progress.stale + 1} or more to continue."
        )
    if not fields.get("plan"):
        return found, "It is planned again."
    plan = plan_from_json(fields["plan"])
    steps = _steps(plan, progress, limits)
    if steps is None or steps == plan.steps:
        return found, None if changed == settings else f"Patience is {patience} now."
    if steps <= progress.step:
        raise RunError(
            f"The run has made {progress.step:,} of {plan.steps:,} steps, and these limits end "
            f"at {steps:,}: they count from its beginning, so give more."
        )
    rate = schedule_of(settings, plan, fields.get(EXTENDED)).rate(max(progress.step - 1, 0))
    share = steps / plan.steps
    longer = replace(
        plan,
        steps=steps,
        epochs=steps / plan.steps_per_epoch,
        validations=max(1, round(plan.validations * share)) if plan.validations else 0,
    )
    since = {"step": progress.step, "rate": rate} if progress.step else None
    schedule = schedule_of(changed, longer, since)
    highest = max(schedule.rate(step) for step in range(progress.step, steps))
    found |= {"plan": asdict(longer), EXTENDED: since}
    return found, (
        f"{'Extended' if steps > plan.steps else 'Shortened'} from {plan.steps:,} to {steps:,} "
        f"steps, of which {progress.step:,} are made: the learning rate goes from {rate:.1e} "
        f"{'up to' if highest > rate * 1.001 else 'on, at most'} {highest:.1e}, and falls as in a "
        "run of that length."
    )


def _steps(plan: Plan, progress: Progress, limits: Limits) -> int | None:
    ends = []
    if limits.steps is not None:
        ends.append(limits.steps)
    if limits.epochs is not None:
        ends.append(max(1, round(limits.epochs * plan.steps_per_epoch)))
    if limits.minutes is not None and plan.step_seconds:
        left = limits.minutes * 60 - progress.seconds
        ends.append(progress.step + int(left / plan.step_seconds))
    return min(ends) if ends else None
