"""The same picks as lm-evaluation-harness, by its own tasks over rows of four formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.evaluation.choice.judging import choice_of
from openchat_local.finetune.evaluation.choice.measuring import Method, measure
from openchat_local.finetune.evaluation.choice.prompts import writer_for
from openchat_local.finetune.evaluation.choice.reading import QuestionSet, read_sets
from openchat_local.finetune.evaluation.contender import contender
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import AdapterChoice, EngineOptions
from support.openchat_gguf import starter_vocabulary, write_model

pytest.importorskip("lm_eval", reason="set up with TORCH=no")

# llama.cpp attends in float16. Texts here have no digit after an empty line: where Hugging
# Face reads a GGUF vocabulary, it cuts that otherwise than llama.cpp and the original do.
ROUNDING = 0.02  # nats
EACH = 25
TASKS = {
    "arc": "arc/arc_easy.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "mmlu": "mmlu/default/mmlu_anatomy.yaml",
}


def rows_of(format: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Random rows in the fields of a format; the right option is another one each time."""
    made = []
    for number, row in enumerate(rows):
        question, options, right = row["question"], row["options"], number % 4
        made.append(
            {
                "arc": {
                    "question": question,
                    "choices": {"text": options, "label": ["1", "2", "3", "4"]},
                    "answerKey": str(right + 1),
                },
                "hellaswag": {
                    "activity_label": "Reading", "ctx_a": question, "ctx_b": "then it",
                    "endings": [f"{text} [title] was  read" for text in options],
                    "label": str(right),
                },
                "winogrande": {
                    "sentence": f"{question} and _ was {options[3]}.",
                    "option1": options[0], "option2": options[1],
                    "answer": str(right % 2 + 1),
                },
                "mmlu": {
                    "question": f" {question}", "subject": "anatomy",
                    "choices": options, "answer": right,
                },
            }[format]
        )  # fmt: skip
    return made


def harness_task(file: Path, config: str) -> Any:
    """A task as the harness defines it, over a local file."""
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    settings = load_yaml(Path(lm_eval.__file__).parent / "tasks" / config)
    splits = ("training_split", "validation_split", "fewshot_split", "fewshot_config", "tag")
    for name in (*splits, "dataset_name"):
        settings.pop(name, None)
    settings |= {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    return ConfigurableTask(config=settings)


def harness_model(model: Path, folder: Path) -> Any:
    """The same weights and vocabulary for transformers."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    from support.hugging_face import write_folder

    torch.set_num_threads(1)
    write_folder(folder, model, torch.float32)
    small = {
        "vocab_size": 49152, "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "sliding_window": None, "max_position_embeddings": 512,
    }  # fmt: skip
    network = MistralForCausalLM(MistralConfig(**small))
    missing = network.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert missing.missing_keys == ["lm_head.weight"], "it is tied to the embedding"
    tokenizer = AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
    return HFLM(pretrained=network.eval(), tokenizer=tokenizer, batch_size=16, device="cpu")


def ours(engine: LocalEngine, model: Path, sets: Sequence[QuestionSet]) -> dict[str, list[Any]]:
    """By set, the log-likelihoods of each question's options, and what is chosen."""
    method = Method(plain=True)
    writer = writer_for(contender("base", model), plain=True)
    questions = {method.key(one): one for each in sets for one in each.questions}
    found = {
        finding["question"]: finding
        for finding in measure(engine, AdapterChoice(), method, writer, questions, 512)
    }
    return {
        one.name: [
            (found[method.key(question)]["log_likelihoods"],
             choice_of(question, found[method.key(question)]), question)
            for question in one.questions
        ]
        for one in sets
    }  # fmt: skip


def test_a_hundred_rows_are_chosen_alike(
    tmp_path: Path,
    starter_path: Path,
    write_rows: Callable[..., Path],
    random_rows: Callable[..., list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf" / "datasets"))
    model = write_model(
        tmp_path / "tiny.gguf", starter_vocabulary(starter_path), precision=np.float32,
        context=512, embedding=64, feed_forward=128, kv_heads=2,
    )  # fmt: skip
    files = {
        format: write_rows(format, rows_of(format, random_rows(EACH, seed=seed)))
        for seed, format in enumerate(TASKS)
    }
    with closing(LocalEngine(EngineOptions(model, context=512))) as engine:
        found = ours(engine, model, read_sets([*files.values()]))
    other = harness_model(model, tmp_path / "weights")
    for format, file in files.items():
        task = harness_task(file, TASKS[format])
        task.build_all_requests()
        instances = task.instances
        replies = other.loglikelihood(instances, disable_tqdm=True)
        for number, (likelihoods, choice, question) in enumerate(found[format]):
            own = [i for i, one in enumerate(instances) if one.doc_id == number]
            theirs = [replies[i][0] for i in own]
            assert likelihoods == pytest.approx(theirs, abs=ROUNDING)
            result = task.process_results(instances[own[0]].doc, [replies[i] for i in own])
            assert result["acc"] == float(choice.pick in question.right), (format, number)
            # Of Winogrande the harness has no acc_norm of its own: its options are contexts.
            if format != "winogrande":
                assert result["acc_norm"] == float(choice.pick_norm in question.right)
