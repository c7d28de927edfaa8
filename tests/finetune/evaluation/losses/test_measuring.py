"""Held-out losses per class and condition, against the definition in NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.gguf_file import write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair, initial_lora, lora_shapes
from openchat_local.finetune.backends.choose import choose_backend
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.data.options import DataOptions
from openchat_local.finetune.evaluation.losses.measuring import Cell, evaluate
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program

LORA = LoraConfig(rank=4)
ANSWERS = {"gpt4": ["Blue.", "It is green.", "Red, mostly."], "gpt35": ["As an AI, I see grey."]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    path = tmp_path_factory.mktemp("models") / "tiny-openchat-3.5.gguf"
    vocabulary = openchat_vocabulary("control")
    return read_gguf(
        write_model(
            path, vocabulary, name="tiny openchat-3.5", context=512, blocks=2, embedding=64,
            heads=4, kv_heads=2, feed_forward=128,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def template(base: GGUFFile) -> Template:
    return choose_template(base, Vocabulary.open(base.path), None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "held-out.jsonl"
    with path.open("w") as file:
        for name, answers in ANSWERS.items():
            for number, answer in enumerate(answers):
                messages = [
                    {"role": "user", "content": f"Which colour has number {number}?"},
                    {"role": "assistant", "content": answer},
                ]
                file.write(json.dumps({"messages": messages, "class": name}) + "\n")
    return path


@pytest.fixture(scope="module")
def adapter(base: GGUFFile) -> dict[str, LoraPair]:
    random = np.random.default_rng(3)
    return {
        name: LoraPair(pair.a, random.standard_normal(pair.b.shape).astype(np.float32))
        for name, pair in initial_lora(lora_shapes(base, LORA), LORA, 0).items()
    }


@pytest.fixture
def measure(base: GGUFFile, template: Template, data: Path) -> Callable[..., list[Cell]]:
    def measured(
        adapter: dict[str, LoraPair] | None = None, card: AdapterCard | None = None, **more: Any
    ) -> list[Cell]:
        options = more.pop("options", DataOptions())
        trainer = choose_backend(precision="float32").make(
            base, LORA, OptimizerConfig(), seed=0, checkpointing=False, quantised=False
        )
        more = {"context": 512} | more
        return evaluate(data, options, template, trainer, adapter, card, **more)

    return measured


def answer_losses(
    base: GGUFFile, template: Template, adapter: dict[str, LoraPair], condition: str
) -> dict[str, list[tuple[float, float, int]]]:
    """For every answer: nats without and with the adapter, and tokens, from the logits."""
    trainer = choose_backend(precision="float32").make(
        base, LORA, OptimizerConfig(), seed=0, checkpointing=False, quantised=False
    )
    losses: dict[str, list[tuple[float, float, int]]] = {}
    for tuned in (False, True):
        if tuned:
            trainer.set_lora(adapter)
        for name, answers in ANSWERS.items():
            for number, answer in enumerate(answers):
                turns = (
                    Message("user", f"Which colour has number {number}?"),
                    Message("assistant", answer),
                )
                rendered = template.render(Conversation(turns, condition), generate=False)
                spans = [
                    s for s in rendered.spans
                    if s.message == 1 and s.kind in ("content", "end_of_turn")
                ]  # fmt: skip
                ids = np.array(rendered.ids)
                logits = trainer.logits(ids.astype(np.int32)).astype(np.float64)
                shifted = logits - logits.max(-1, keepdims=True)
                log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
                where = np.concatenate([np.arange(s.start, s.end) for s in spans])
                nats = float(-log_p[where - 1, ids[where]].sum())
                if tuned:
                    before, _, count = losses[name][number]
                    losses[name][number] = (before, nats, count)
                else:
                    losses.setdefault(name, []).append((nats, 0.0, len(where)))
    return losses


def test_each_class_is_measured_under_each_condition(
    base: GGUFFile,
    template: Template,
    adapter: dict[str, LoraPair],
    measure: Callable[..., list[Cell]],
) -> None:
    cells = measure(adapter)
    pairs = [(cell.class_name, cell.condition) for cell in cells]
    conditions = ("GPT4 Correct", "GPT3")
    assert pairs == [(name, condition) for name in ("gpt4", "gpt35") for condition in conditions]
    for condition in conditions:
        expected = answer_losses(base, template, adapter, condition)
        for cell in (cell for cell in cells if cell.condition == condition):
            rows = np.array(expected[cell.class_name])
            tokens = rows[:, 2].sum()
            assert cell.tokens == tokens
            assert cell.conversations == len(rows)
            assert cell.base_loss == pytest.approx(rows[:, 0].sum() / tokens, rel=1e-4)
            assert cell.adapter_loss == pytest.approx(rows[:, 1].sum() / tokens, rel=1e-4)


def test_the_standard_error_is_that_of_the_change_between_conversations(
    base: GGUFFile,
    template: Template,
    adapter: dict[str, LoraPair],
    measure: Callable[..., list[Cell]],
) -> None:
    expert, *_, single = measure(adapter)
    rows = np.array(answer_losses(base, template, adapter, "GPT4 Correct")["gpt4"])
    change, tokens = rows[:, 1] - rows[:, 0], rows[:, 2]
    residuals = change - change.sum() / tokens.sum() * tokens
    variance = len(rows) / (len(rows) - 1) * (residuals**2).sum() / tokens.sum() ** 2
    assert expert.standard_error == pytest.approx(np.sqrt(variance), rel=1e-3)
    assert single.conversations == 1
    assert single.standard_error == 0


def test_conditions_come_from_the_adapter_and_flags_come_first(
    measure: Callable[..., list[Cell]],
) -> None:
    classes = (TrainedClass("gpt4", "Best", 1.0), TrainedClass("gpt35", "Plain", 0.5))
    card = AdapterCard(classes, "openchat-3.5", None, None, None)
    assert {cell.condition for cell in measure(card=card)} == {"Best", "Plain"}
    options = DataOptions(conditions={"gpt35": "Mine"})
    assert {cell.condition for cell in measure(card=card, options=options)} == {"Best", "Mine"}


def test_answers_of_one_class_are_measured_under_the_adapters_other_conditions_too(
    data: Path, measure: Callable[..., list[Cell]]
) -> None:
    data.write_text("\n".join(line for line in data.read_text().splitlines() if "gpt4" in line))
    classes = (TrainedClass("gpt35", "Plain", 0.5), TrainedClass("gpt4", "Best", 1.0))
    card = AdapterCard(classes, "openchat-3.5", None, None, None)
    cells = measure(card=card)
    assert [(cell.class_name, cell.condition) for cell in cells] == [
        ("gpt4", "Best"), ("gpt4", "Plain"),
    ]  # fmt: skip


def test_a_limit_takes_the_first_of_each_class(measure: Callable[..., list[Cell]]) -> None:
    counts = {cell.class_name: cell.conversations for cell in measure(limit=2)}
    assert counts == {"gpt4": 2, "gpt35": 1}


def test_a_reward_of_zero_is_still_judged(measure: Callable[..., list[Cell]]) -> None:
    cells = measure(options=DataOptions(rewards={"gpt35": 0.0}))
    assert [cell.class_name for cell in cells] == ["gpt4", "gpt4", "gpt35", "gpt35"]


def test_unknown_classes_are_refused_with_the_flags_to_add(
    data: Path, measure: Callable[..., list[Cell]]
) -> None:
    data.write_text(data.read_text().replace('"gpt35"', '"aunt"'))
    with pytest.raises(DataError, match="--reward aunt=NUMBER"):
        measure()


def test_nothing_left_to_measure_is_told_with_its_reason(
    data: Path, measure: Callable[..., list[Cell]]
) -> None:
    with pytest.raises(DataError, match=r"left to measure: 4 answer only after the 5 tokens"):
        measure(context=5)
    line = json.loads(data.read_text().splitlines()[0]) | {"reward": 0}
    data.write_text(json.dumps(line) + "\n")
    with pytest.raises(DataError, match="left to measure: 1 have no weight"):
        measure()


def test_whatever_is_left_out_is_told(data: Path, measure: Callable[..., list[Cell]]) -> None:
    lines = data.read_text().splitlines()
    again = json.loads(lines[0]) | {"class": "gpt35", "tools": []}
    data.write_text("\n".join([*lines, json.dumps(again), "{"]) + "\n")
    notes: list[str] = []
    cells = measure(tell=notes.append, options=DataOptions(skip_bad=True), context=24)
    assert {cell.class_name: cell.conversations for cell in cells} == {"gpt4": 3, "gpt35": 1}
    conflict, counts, fields, bad, fault = notes
    assert "such as line 1 instead of line 5" in conflict
    assert counts.startswith("Of 5 conversations: duplicates left out 1, cut after 24 tokens ")
    assert "tools (1)" in fields
    assert bad == "Bad lines, left out: 1."
    assert fault.startswith("line 6: is not JSON")


def test_the_command_prints_a_table_or_json(
    base: GGUFFile, template: Template, adapter: dict[str, LoraPair], data: Path, tmp_path: Path
) -> None:
    classes = (TrainedClass("gpt4", "GPT4 Correct", 1.0), TrainedClass("gpt35", "GPT3", 0.1))
    card = AdapterCard(classes, template.name, base.name, base.fingerprint, None)
    write_gguf(tmp_path / "adapter.gguf", adapter, LORA, base, card)
    command = (
        "finetune", "evaluate", data, "-m", base.path, "--adapter", tmp_path / "adapter.gguf",
    )  # fmt: skip

    def run(*more: str) -> str:
        home = {"OPENCHAT_LOCAL_HOME": str(tmp_path / "home"), "COLUMNS": "100"}
        done = run_program(*command, *more, **home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = json.loads(run("--json"))["losses"]
    assert (found[0]["class_name"], found[0]["condition"]) == ("gpt4", "GPT4 Correct")
    assert found[0]["change"] == pytest.approx(found[0]["adapter_loss"] - found[0]["base_loss"])
    shown = run()
    assert f"{found[0]['base_loss']:.4f}" in shown
    assert "did not help" in shown or "No difference" in shown or "better" in shown
