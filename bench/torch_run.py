"""One contender of `bench.torch`, in a process of its own; prints a line of JSON.

`python -m bench.torch_run NAME MODEL ROWS BATCH STEPS DTYPE`, where NAME is "openchat-local",
"TRL" or "TRL, packed"; or `… step dense|blocks|nf4 MODEL DTYPE` for one step on that base.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bench.finetune_run import LORA, RATE, read_rows
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.finetune.data.epoch import Layout, plan_epoch
from openchat_local.models.gguf import read_gguf


def main(name: str, *rest: str) -> None:
    if name == "step":
        result = _one_step(*rest)
    else:
        model, file, batch, steps, dtype = rest
        rows = read_rows(Path(file))
        train = _ours if name == "openchat-local" else _trl
        result = train(Path(model), rows, int(batch), int(steps), dtype, name.endswith("packed"))
        result["supervised"] = sum(int(np.count_nonzero(row.weights)) for row in rows)
    from openchat_local.finetune.backends.torch.device import find_device, peak_memory

    result["peak_bytes"] = peak_memory(find_device())
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(result))


def _ours(
    model: Path, rows: list[Row], batch: int, steps: int, dtype: str, _packed: bool
) -> dict[str, Any]:
    backend = choose_backend("torch", precision=dtype)
    trainer = backend.make(
        read_gguf(model), LORA, OptimizerConfig(learning_rate=RATE),
        seed=0, checkpointing=False, quantised=False,
    )  # fmt: skip
    lengths = np.array([len(row.ids) for row in rows])
    per_step = int(lengths.sum()) // steps + 1
    per_batch = min(per_step, backend.batch_positions or 8192)
    columns = int(lengths.max())
    if backend.packs:
        per_batch = max(per_batch, columns)
    layout = Layout(per_step, per_batch, columns, backend.packs)
    epoch = plan_epoch(lengths, np.zeros_like(lengths), 0, 0, layout)
    started = time.perf_counter()
    for step in epoch:
        batches = [build_batch(rows, each.groups, each.columns) for each in step]
        trainer.step(backend.group.share(batches), RATE)
    return {
        "seconds": time.perf_counter() - started,
        "configuration": f"{backend.why}; rank {LORA.rank} on all linear layers, AdamW {RATE}, no "
        f"checkpointing, {len(epoch)} steps of about {per_step} tokens in micro-batches of at "
        f"most {per_batch} positions, {'packed' if backend.packs else 'rows of like lengths'}",
    }


def _trl(
    model: Path, rows: list[Row], batch: int, steps: int, dtype: str, packed: bool
) -> dict[str, Any]:
    """TRL's own trainer, at the fastest settings that were found for a CPU."""
    warnings.filterwarnings("ignore")
    import torch
    import transformers
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    transformers.utils.logging.disable_progress_bar()
    disable_progress_bars()
    network = AutoModelForCausalLM.from_pretrained(
        str(model.parent), gguf_file=model.name, dtype=getattr(torch, dtype)
    )
    # Its weights are dense by now, but a Trainer refuses what came from a GGUF file.
    network.hf_quantizer, network.is_quantized = None, False
    del network.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(str(model.parent), gguf_file=model.name)
    labels = [np.where(row.weights > 0, row.ids, -100).tolist() for row in rows]
    data = Dataset.from_dict({"input_ids": [row.ids.tolist() for row in rows], "labels": labels})
    accumulation = max(1, len(rows) // (batch * steps))
    packing: dict[str, Any] = (
        {"packing": True, "max_length": 2048, "per_device_train_batch_size": 1}
        if packed
        else {
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": accumulation,
            "train_sampling_strategy": "group_by_length",
            "dataset_kwargs": {"skip_prepare_dataset": True},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, num_train_epochs=1, learning_rate=RATE, lr_scheduler_type="constant",
            optim="adamw_torch_fused", weight_decay=0.0, gradient_checkpointing=False,
            bf16=dtype == "bfloat16", use_cpu=not torch.cuda.is_available(),
            logging_strategy="no", save_strategy="no", report_to=[], disable_tqdm=True,
            dataloader_pin_memory=False, seed=0, **packing,
        )  # fmt: skip
        trainer = SFTTrainer(
            network, config, train_dataset=data, processing_class=tokenizer,
            peft_config=LoraConfig(
                r=LORA.rank, lora_alpha=LORA.alpha, target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )  # fmt: skip
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    how = (
        "packed into rows of 2,048"
        if packed
        else f"batches of {batch} of like lengths × {accumulation}"
    )
    return {
        "seconds": seconds,
        "configuration": f"{dtype}, {network.config._attn_implementation} attention, rank "
        f"{LORA.rank} on all linear layers, fused AdamW {RATE}, no checkpointing, prompts "
        f"masked, {trainer.state.global_step} steps, {how}",
    }


def _one_step(base: str, model: str, dtype: str) -> dict[str, Any]:
    backend = choose_backend("torch", precision=dtype, nf4=base == "nf4")
    trainer = backend.make(
        read_gguf(Path(model)), LORA, OptimizerConfig(),
        seed=0, checkpointing=True, quantised=base != "dense",
    )  # fmt: skip
    ids = np.arange(1, 513, dtype=np.int32)
    row = Row(ids, np.concatenate([[0], np.ones(511)]).astype(np.float32), 0, 1)
    started = time.perf_counter()
    trainer.step([build_batch([row], [(0,)])], RATE)
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main(*sys.argv[1:])
