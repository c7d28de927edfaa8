"""A trained adapter in its run's folder: adapter.gguf for chat, adapter/ for Hugging Face."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from openchat_local.finetune.adapter.gguf_file import write_gguf
from openchat_local.finetune.adapter.lora import LoraWeights
from openchat_local.finetune.adapter.peft import write_peft
from openchat_local.finetune.data.policy import Policy
from openchat_local.finetune.data.report import DataReport
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass
from openchat_local.models.library.identity import identity_of
from openchat_local.models.library.origin import hub_repository
from openchat_local.models.template import Template


def write_adapter(
    run: Path, weights: LoraWeights, settings: RunSettings, base: GGUFFile, card: AdapterCard
) -> None:
    """Write both into the folder `run`, over those of before. Raises AdapterError, OSError."""
    write_gguf(run / "adapter.gguf", weights, settings.lora, base, card)
    source = hub_repository(base) if settings.weights is None else str(settings.weights)
    with TemporaryDirectory(dir=run, prefix=".adapter-") as scratch:
        written = Path(scratch) / "adapter"
        write_peft(written, weights, settings.lora, base, source)
        # File by file: somebody may have put a README beside them.
        folder = run / "adapter"
        folder.mkdir(exist_ok=True)
        for file in written.iterdir():
            os.replace(file, folder / file.name)


def adapter_card(
    policy: Policy, base: GGUFFile, template: Template, report: DataReport
) -> AdapterCard:
    """What the adapter says of itself, for chat to read."""
    return AdapterCard(
        classes=tuple(
            TrainedClass(rule.name, rule.condition, rule.reward) for rule in policy.classes
        ),
        template=template.name,
        base_name=base.name,
        base_fingerprint=base.fingerprint,
        data_hash=next(iter(report.digests.values()), None),
        base=identity_of(base),
        system_prompt=report.system_prompt or None,
    )
