"""Options of training arrive in the run, and what they cannot have is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_local.app.cli.finetune_options import check_vocabulary
from support.architectures import write_tiny
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program

EXAMPLE = Path(__file__).parents[3] / "examples" / "commit-messages"


def test_the_optimizer_and_the_loss_are_what_was_asked_for(tmp_path: Path) -> None:
    model = write_model(
        tmp_path / "tiny-openchat-3.5.gguf", openchat_vocabulary("control"),
        name="tiny openchat-3.5", context=256, blocks=1, embedding=64, heads=2, kv_heads=1,
        feed_forward=128,
    )  # fmt: skip
    data = tmp_path / "data.jsonl"
    lines = (EXAMPLE / "train.jsonl").read_text("utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[:40]), "utf-8")
    done = run_program(
        "finetune", data, "-m", model, "--steps", "3", "--tokens-per-step", "256",
        "--max-length", "15017", "--loss", "per-conversation", "--learning-rate", "1e-3",
        "--min-learning-rate", "0.25", "--weight-decay", "0.1", "--betas", "0.8", "0.99",
        "--epsilon", "1e-5", "--clip", "0.5", "--backend", "mlx",
        OPENCHAT_LOCAL_HOME=str(tmp_path / "home"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "--max-length 15,017 is more than the 256 tokens" in said
    run = tmp_path / "home" / "runs" / "data"
    kept = json.loads((run / "run.json").read_text("utf-8"))
    settings = kept["settings"]
    assert settings["optimizer"] == {
        "learning_rate": 1e-3, "betas": [0.8, 0.99], "epsilon": 1e-5, "weight_decay": 0.1,
        "clip": 0.5,
    }  # fmt: skip
    assert settings["data_options"]["loss"] == "per-conversation"
    assert kept["data"]["context"] == 256
    # Each reply's weight is spread over its tokens.
    for found in kept["data"]["train"]["classes"]:
        assert found["mean_weight"] < found["rule"]["reward"] / 2
    metrics = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
    rates = [line["learning_rate"] for line in metrics if "learning_rate" in line]
    assert rates[-1] == pytest.approx(0.25e-3)


def test_a_model_without_a_template_is_trained_under_the_one_that_is_asked_for(
    tmp_path: Path,
) -> None:
    check_vocabulary(write_tiny(tmp_path / "base.gguf", "qwen3"))
