"""Does it fit, how long will it take, and what to do about it: before a run, and shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from openchat_local.finetune.adapter.lora import LoraConfig, lora_shapes
from openchat_local.finetune.backends.choose import Backend, HeldBits
from openchat_local.finetune.backends.memory import positions_at_once
from openchat_local.finetune.data.epoch import Layout, plan_epoch
from openchat_local.finetune.data.options import DEFAULT_MAX_LENGTH
from openchat_local.finetune.data.rows import RowStore
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.errors import OpenChatError
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.units import memory_in_words

DEFAULT_EPOCHS = 3.0
# Of the memory that is free, what a run may plan with: the rest is for the user.
MEMORY_SHARE = 0.8
# Of that, what a base may take before it stays in its quantised blocks.
DENSE_SHARE = 0.5
SMALLEST_BATCH = 256
# Below these, a plan is told to be short.
SHORT_EPOCHS, FEW_STEPS = 0.5, 10
PACKED_COLUMNS = 2048


class PlanError(OpenChatError):
    """A run that cannot fit into this machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is made to fit. Bytes and seconds; what is measured is 0 until `measuring` has
    tried the costliest batch. `validations` is how often the held-out loss is taken after
    the first time; `quantised` says that the base stays in its quantised blocks."""

    layout: Layout
    steps: int
    epochs: float
    steps_per_epoch: int
    checkpointing: bool
    predicted_bytes: int
    available_bytes: int
    measured_bytes: int = 0
    step_seconds: float = 0.0
    validations: int = 0
    validation_seconds: float = 0.0
    quantised: bool = False

    @property
    def seconds(self) -> float:
        """What all steps and validations will take."""
        return self.steps * self.step_seconds + self.validating_seconds

    @property
    def validating_seconds(self) -> float:
        """What all validations will take."""
        return (self.validations + 1) * self.validation_seconds

    def halved(self) -> Plan | None:
        """With micro-batches of half the size, or None if they hold but one row. The steps stay
        what they are: sums over smaller pieces are the same sums."""
        least = self.layout.columns if self.layout.packing else 1  # a longer row is alone
        half = max(least, self.layout.tokens_per_batch // 2)
        if half >= self.layout.tokens_per_batch:
            return None
        return replace(self, layout=replace(self.layout, tokens_per_batch=half))


def tiny_notes(plan: Plan) -> list[str]:
    """What to say of a plan too short to learn much."""
    note = ""
    if plan.epochs < SHORT_EPOCHS:
        note = (
            f"{_steps_in_words(plan)} for {plan.epochs:.0%} of the data: enough to try things out, "
            f"not to learn from; one epoch is {plan.steps_per_epoch:,} steps."
        )
    elif plan.steps < FEW_STEPS:
        smaller = max(plan.layout.tokens_per_step // 4, 64)
        note = (
            f"Only {_steps_in_words(plan)}, which teach little: more conversations, more often "
            f"(--epochs), or smaller steps (--tokens-per-step {smaller}) may help."
        )
    return [note] if note else []


def _steps_in_words(plan: Plan) -> str:
    return "1 step" if plan.steps == 1 else f"{plan.steps:,} steps"


def max_length(settings: RunSettings, base: GGUFFile) -> int:
    """Tokens of the longest conversation that is kept whole; never more than the model was made
    to attend to."""
    return min(settings.max_length or DEFAULT_MAX_LENGTH, base.context_length)


def make_plan(
    settings: RunSettings,
    base: GGUFFile,
    rows: RowStore,
    held_out: RowStore,
    *,
    backend: Backend,
    available: int,
) -> Plan:
    """The largest batch that fits `available` bytes, and the number of steps.

    Raises PlanError if not even the longest conversation fits.
    """
    tokens = int(rows.lengths.sum())
    tokens_per_step = settings.tokens_per_step or usual_tokens_per_step(tokens)
    packing = backend.packs if settings.packing is None else settings.packing
    columns = max(int(found.lengths.max(initial=1)) for found in (rows, held_out))
    if packing:  # rows as long as the longest conversation leave gaps that nothing fills
        columns = max(columns, min(PACKED_COLUMNS, tokens_per_step))
    budget = int(available * MEMORY_SHARE)
    wish = settings.quantised
    if settings.weights is not None and not settings.nf4:
        wish = False  # a Hugging Face folder has no quantised blocks
    quantised = keeps_quantised(base, backend, available) if wish is None else wish
    held = Held(backend.value_bytes, quantised, backend.held_bits)
    most = backend.most_positions(quantised=quantised)
    wanted = min(tokens_per_step, most or tokens_per_step)
    checkpointing, size = _fitting(settings, base, columns, wanted, held, budget)
    per_batch = max(size, columns) if packing else size  # a longer row is alone
    layout = Layout(max(tokens_per_step, 1), per_batch, columns, packing)
    per_epoch = len(plan_epoch(rows.lengths, rows.classes, settings.seed, 0, layout))
    steps = _steps(settings, per_epoch, tokens)
    predicted = predict_memory(
        base, settings.lora, max(size, columns), columns, held=held, checkpointing=checkpointing
    )
    return Plan(
        layout, steps, steps / per_epoch, per_epoch, checkpointing, predicted, available,
        quantised=held.quantised,
    )  # fmt: skip


def plan_from_json(fields: Mapping[str, Any]) -> Plan:
    """What `asdict` made of a plan, and JSON of that."""
    return Plan(**dict(fields) | {"layout": Layout(**fields["layout"])})


@dataclass(frozen=True, slots=True)
class Held:
    """How the base is held: values of so many bytes, or quantised, a value of a tensor then
    taking `bits`."""

    value_bytes: int
    quantised: bool
    bits: HeldBits

    def size(self, base: GGUFFile) -> int:
        """Bytes of its weights."""
        counts = ((tensor, math.prod(tensor.shape)) for tensor in base.tensors)
        if not self.quantised:
            return sum(count for _, count in counts) * self.value_bytes
        return sum(math.ceil(count * self.bits(tensor) / 8) for tensor, count in counts)


def keeps_quantised(base: GGUFFile, backend: Backend, available: int) -> bool:
    """Whether `base` stays in its quantised blocks when nobody says so: as the backend prefers,
    else where a dense base would fill the memory."""
    if backend.quantised is not None:
        return backend.quantised
    dense = Held(backend.value_bytes, False, backend.held_bits)
    return dense.size(base) > available * MEMORY_SHARE * DENSE_SHARE


def predict_memory(
    base: GGUFFile,
    lora: LoraConfig,
    positions: int,
    columns: int,
    *,
    held: Held,
    checkpointing: bool,
) -> int:
    """Bytes at the peak of a step over `positions` tokens in rows of `columns`.

    Base weights; adapter, gradient and two moments in float32; and what the backward pass
    keeps: of every block its input alone (checkpointing) or all it computed, one block in
    full, and the logits of the few positions that the output head takes at once.
    """
    width = held.value_bytes
    shapes = lora_shapes(base, lora)
    adapter = sum((out + into) * lora.rank for out, into in shapes.values()) * 4 * 4
    hidden, queries = base.embedding_length, base.head_count * base.key_length
    feed_forward = base.feed_forward_length
    values = 6 * hidden + 4 * queries + 5 * feed_forward + base.head_count * columns
    block = positions * values * width
    blocks = base.block_count
    kept = positions * hidden * width * blocks + block if checkpointing else block * blocks
    logits = min(positions, positions_at_once(base.vocab_size)) * base.vocab_size * 4 * 4
    # A quantised output layer is multiplied out whole while its gradients are taken.
    head = base.vocab_size * hidden * width if held.quantised else 0
    return int(held.size(base) + adapter + kept + logits + head)


def _fitting(
    settings: RunSettings,
    base: GGUFFile,
    columns: int,
    wanted: int,
    held: Held,
    budget: int,
) -> tuple[bool, int]:
    """Whether to checkpoint, and the positions of a micro-batch: the largest that fit."""
    wishes = (False, True) if settings.checkpointing is None else (settings.checkpointing,)
    size = settings.tokens_per_batch or wanted
    for checkpointing in wishes:
        tried = size
        while True:
            needed = predict_memory(
                base, settings.lora, max(tried, columns), columns,
                held=held, checkpointing=checkpointing,
            )  # fmt: skip
            if needed <= budget:
                # Recomputing costs a third more time; a batch cut to a sliver costs more.
                if checkpointing or tried >= min(size, 2 * columns) or len(wishes) == 1:
                    return checkpointing, tried
                break
            if tried <= max(columns, SMALLEST_BATCH):
                break
            tried = max(columns, SMALLEST_BATCH, tried // 2)
    raise PlanError(
        f"Training on conversations of {columns:,} tokens needs {memory_in_words(needed)} of "
        f"memory and {memory_in_words(budget)} can be used: cut them with --max-length "
        f"{max(SMALLEST_BATCH, columns // 2)}, or choose a smaller model."
    )


def usual_tokens_per_step(total: int) -> int:
    """About forty steps an epoch, within what is usual for adapters."""
    wanted = total / 40
    return int(min(8192, max(1024, 2 ** round(math.log2(max(wanted, 1))))))


def _steps(settings: RunSettings, per_epoch: int, tokens: int) -> int:
    """The steps of a run over an epoch of `tokens` in `per_epoch` steps."""
    limits = []
    if settings.tokens:
        limits.append(max(1, round(settings.tokens * per_epoch / tokens)))
    if settings.steps:
        limits.append(settings.steps)
    if settings.epochs:
        limits.append(max(1, round(settings.epochs * per_epoch)))
    if not limits:
        # A time alone may take as many epochs as fit into it.
        limits.append(10**6 if settings.minutes else round(DEFAULT_EPOCHS * per_epoch))
    return max(1, min(limits))
