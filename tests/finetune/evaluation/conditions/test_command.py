"""`eval conditions`, from a file to a report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.evaluation.conditions.divergence import Divergence
from openchat_local.finetune.evaluation.conditions.figures import Seen
from openchat_local.finetune.evaluation.conditions.readings import Readings
from openchat_local.finetune.evaluation.conditions.report import result_of
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import AdapterCard, TrainedClass
from support.adapters import write_random_adapter
from support.programs import PROGRAM, run_here

from .conftest import line

BEST, OTHER = "GPT4 Correct", "GPT3"
QUICK = ("--prompts", "1", "--max-tokens", "4")


def looked_at(*arguments: str | Path) -> dict[str, Any]:
    done = run_here("eval", "conditions", *arguments, *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kept(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("evaluations/cache/*.jsonl")}


def test_an_adapter_beside_its_base_and_the_second_time_nothing_is_measured(
    base: GGUFFile, three_is_other: Path, data: Path, home: Path, tmp_path: Path
) -> None:
    flags = (data, "-m", base.path, "--adapter", three_is_other)
    out = tmp_path / "the result"
    found = looked_at(*flags, "--out", out)

    assert found["conditions"] == [BEST, OTHER]
    for cell in found["losses"]:
        change = abs(cell["adapters"][0]["change"])
        assert change < 1e-3 if cell["condition"] == BEST else change > 0.01
    labels = [one["label"] for one in found["differences"] if one["class_name"] is None]
    assert labels == ["base", "three"]
    under = [one["under"] for one in found["silhouettes"]]
    within = f"all under '{BEST}', less what answers to the same prompt have in common"
    own = "each class under its own condition"
    assert under == [each for each in (own, f"all under '{BEST}'", within) for _ in labels]
    assert len(found["sentences"]) == 2 + 2
    assert "the base predicts them" in found["sentences"][0]

    names = {path.name for path in out.iterdir()}
    pictures = {f"answers-{name}.{end}" for name in (1, 2, 3) for end in ("svg", "png")}
    assert names == {"made_by.json", "rows.jsonl", "summary.json", "report.html", *pictures}
    rows = [json.loads(row) for row in (out / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 1 + 7
    assert list(rows[0]["answers"]) == [
        f"{label}, '{condition}'" for label in labels for condition in (BEST, OTHER)
    ]
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    measured = kept(home)
    assert len(measured) == 6

    again = looked_at(*flags, "--out", out)

    assert again == found
    assert kept(home) == measured
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_an_adapter_without_conditions_has_one_and_more_can_be_added(
    base: GGUFFile, data: Path, tmp_path: Path
) -> None:
    classes = (TrainedClass("gpt4", BEST, 1.0), TrainedClass("gpt35", BEST, 1.0))
    card = AdapterCard(classes, "openchat-3.5", base.name, base.fingerprint)
    sft = write_random_adapter(tmp_path / "sft.gguf", base.path, card=card)

    alone = looked_at(data, "-m", base.path, "--adapter", sft)

    assert alone["conditions"] == [BEST]
    assert alone["differences"] == []
    assert "nothing to compare it with; --condition TEXT adds" in alone["sentences"][0]
    assert len(alone["silhouettes"]) == 2 * 2  # the own condition and the best are one

    added = looked_at(data, "-m", base.path, "--adapter", sft, "--condition", "Other")

    assert added["conditions"] == [BEST, "Other"]
    assert f"was trained under '{BEST}' alone" in added["sentences"][0]
    assert len(added["differences"]) == 2 * 3


def test_unknown_classes_are_given_a_condition_and_what_is_too_long_is_counted_apart(
    base: GGUFFile, data: Path
) -> None:
    text = data.read_text().replace("gpt35", "llama").replace("It is green.", "Green. " * 99)
    data.write_text(text)
    flags = (data, "-m", base.path, "--reward", "llama=0.2", "--condition", "llama=Weak")

    found = looked_at(*flags, "--condition", "", "--limit", "2")

    assert found["conditions"] == [BEST, "Weak", ""]
    assert {cell["conversations"] for cell in found["losses"]} == {2}
    assert any("longer than the context of 512 tokens 1" in note for note in found["notes"])


def test_one_answer_is_measured_and_what_it_cannot_say_is_said(base: GGUFFile, data: Path) -> None:
    data.write_text(data.read_text().splitlines(keepends=True)[0])

    found = looked_at(data, "-m", base.path, "--condition", OTHER)

    assert "which says nothing of others" in found["sentences"][0]
    assert "one class" in found["sentences"][-1]
    assert [one["silhouette"] for one in found["silhouettes"]] == [None]
    assert [one["shannon_interval"] for one in found["differences"]] == [None]


def test_two_answers_of_two_classes_have_no_silhouette(base: GGUFFile, data: Path) -> None:
    found = looked_at(data, "-m", base.path, "--limit", "1")

    assert "Fewer than three answers" in found["sentences"][-1]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--umap",), "pip install umap-learn"),
        (("--condition", "a=b", "--condition", "a=c"), "'a' is given twice"),
        (("--condition", "nobody=b"), "nobody"),
        (("--adapter", "nothing-of-this-name"), "nothing-of-this-name"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_a_sentence_before_anything_is_measured(
    base: GGUFFile, data: Path, home: Path, flags: tuple[str, ...], sentence: str
) -> None:
    if "--umap" in flags:
        import importlib.util

        if importlib.util.find_spec("umap") is not None:
            pytest.skip("umap-learn is there")
    done = run_here("eval", "conditions", data, "-m", base.path, *flags)

    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert kept(home) == {}


def test_without_matplotlib_there_are_tables_and_a_sentence(
    read: Any, card: AdapterCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answers = read(card)
    random = np.random.default_rng(0)
    readings = Readings(
        {condition: random.random(7) for condition in answers.conditions},
        {(BEST, OTHER): np.tile(Divergence(0.1, 0.1, 0.01, 0.02, 0.03), (7, 1))},
    )
    vectors = random.random((7, 5)).astype(np.float32)
    seen = [
        Seen(label, label == "base", (BEST, OTHER), (BEST, OTHER), readings, vectors, vectors)
        for label in ("base", "mine")
    ]

    result = result_of(Path("held-out.jsonl"), answers, seen, (), {}, {"settings": {}}, ())

    assert result.pictures == []
    assert any("pip install 'openchat-local[eval]'" in note for note in result.notes)
    assert len(result.tables) == 5


def test_control_c_keeps_what_is_done_and_the_same_command_goes_on(
    base: GGUFFile, data: Path, home: Path
) -> None:
    lines = [
        line(f"Number {number}?", f"{name}, {number}. ".replace("3", "4") * 20, name)
        for number in range(8)
        for name in ("gpt4", "gpt35")
    ]
    data.write_text("".join(lines))
    flags = [
        "eval",
        "conditions",
        str(data),
        "-m",
        str(base.path),
        "--prompts",
        "2",
        "--max-tokens",
        "50",
    ]
    process = subprocess.Popen(
        [*PROGRAM, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    with process:
        while process.poll() is None and not any(kept(home).values()):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert "% of what there was to do is done and kept" in error.decode()
    before = kept(home)

    done = run_here(*flags)

    assert done.returncode == 0, done.stderr
    assert all(rows.startswith(before.get(name, b"")) for name, rows in kept(home).items())
    assert sorted(len(rows.splitlines()) for rows in kept(home).values()) == [4, 16, 24]
