"""`eval loss`, which `finetune evaluate` is another name of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import adapter_name
from support.adapters import write_random_adapter
from support.openchat_gguf import byte_vocabulary, write_model
from support.programs import PROGRAM, run_here


def measured(*arguments: str | Path) -> dict[str, Any]:
    done = run_here(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kept(home: Path) -> list[bytes]:
    """What has been scored, file by file."""
    return [path.read_bytes() for path in sorted(home.glob("evaluations/cache/*.jsonl"))]


def test_both_names_give_the_same_and_the_second_time_nothing_is_scored(
    base: GGUFFile, adapter: Path, data: Path, home: Path
) -> None:
    flags = (data, "-m", base.path, "--adapter", adapter)
    first = measured("finetune", "evaluate", *flags)
    found = first["losses"]
    assert (found[0]["class_name"], found[0]["condition"]) == ("gpt4", "GPT4 Correct")
    assert found[0]["change"] == pytest.approx(found[0]["adapter_loss"] - found[0]["base_loss"])
    assert (first["file"], first["adapter"]) == (str(data), adapter_name(adapter))
    scored = kept(home)
    assert [len(rows.splitlines()) for rows in scored] == [8, 8]
    assert measured("eval", "loss", *flags) == first
    assert kept(home) == scored


def test_a_table_a_sentence_and_a_folder(
    base: GGUFFile, adapter: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "the result"
    flags = ("-m", base.path, "--adapter", adapter, "--out", out)
    done = run_here("eval", "loss", data, *flags, COLUMNS="120")
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    losses = summary["losses"]
    assert f"{losses[0]['base_loss']:.4f}" in done.stdout
    assert f"{losses[0]['change']:+.4f}" in done.stdout
    shown = done.stdout
    assert "did not help" in shown or "No difference" in shown or "better" in shown
    assert summary["sentences"][0] in shown
    report = (out / "report.html").read_text()
    assert summary["sentences"][0].replace("'", "&#39;") in report
    assert "held-out.jsonl" in report
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    expert = [row for row in rows if (row["class"], row["condition"]) == ("gpt4", "GPT4 Correct")]
    tokens = sum(row["tokens"] for row in expert)
    nats = sum(row["nats"]["base"] for row in expert)
    assert nats / tokens == pytest.approx(losses[0]["base_loss"])
    made_by = json.loads((out / "made_by.json").read_text())
    assert [one["label"] for one in made_by["contenders"]] == ["base", adapter_name(adapter)]
    assert made_by["settings"]["by"] == "llama.cpp"


def test_several_adapters_are_measured_beside_the_base(
    base: GGUFFile, adapter: Path, data: Path, tmp_path: Path, home: Path
) -> None:
    other = write_random_adapter(tmp_path / "other.gguf", base.path, seed=2)
    flags = ("eval", "loss", data, "-m", base.path, "--template", "openchat-3.5")
    one = measured(*flags, "--adapter", adapter)
    before = kept(home)
    both = measured(*flags, "--adapter", other, "--adapter", adapter, "--limit", "2")
    assert both["adapter"] is None
    for cell in both["losses"]:
        assert [its["label"] for its in cell["adapters"]] == ["other", adapter_name(adapter)]
    assert len(both["sentences"]) == 3  # one an adapter, and which is the best
    # "Expert" is a condition that the other one alone was trained under.
    conditions = {cell["condition"] for cell in both["losses"]}
    assert conditions - {cell["condition"] for cell in one["losses"]} == {"Expert"}
    added = {str(path) for path in home.glob("evaluations/cache/*")}
    assert len(added) == len(before) + 1
    assert all(any(now.startswith(rows) for now in kept(home)) for rows in before)


def test_a_training_backend_measures_as_well(base: GGUFFile, data: Path) -> None:
    flags = (data, "-m", base.path, "--limit", "1")
    llama = measured("eval", "loss", *flags)
    torch = measured("finetune", "evaluate", *flags, "--backend", "torch", "--precision", "float32")
    assert torch["by"].startswith("torch ")
    for cell, same in zip(llama["losses"], torch["losses"], strict=True):
        assert cell["conversations"] == 1
        assert cell["base_loss"] == pytest.approx(same["base_loss"], rel=3e-4)


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (("--device", "cpu", "--backend", "llama.cpp"), 2, "--device are for training backends"),
        (("--adapter", "foreign.gguf"), 1, "was trained on starter, whose fingerprint"),
        (("--adapter", "other.gguf"), 1, "choose one for all with --template"),
        (("--out", "."), 1, "holds something else"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_it_is(
    more: tuple[str, ...],
    status: int,
    said: str,
    base: GGUFFile,
    adapter: Path,
    data: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    elsewhere = write_model(
        data.parent / "elsewhere.gguf", byte_vocabulary(), name="starter", blocks=2, embedding=64,
        heads=2, kv_heads=1, feed_forward=128, seed=9,
    )  # fmt: skip
    write_random_adapter(data.parent / "foreign.gguf", elsewhere)
    write_random_adapter(data.parent / "other.gguf", base.path)
    done = run_here("eval", "loss", data, "-m", base.path, "--adapter", adapter, *more)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert kept(home) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_says_what_is_kept_and_the_rest_is_scored_later(tmp_path: Path, home: Path) -> None:
    # Deep, so that a few answers take long.
    model = write_model(
        tmp_path / "tiny-openchat-3.5.gguf", byte_vocabulary(), context=512, blocks=32,
        embedding=64, heads=2, kv_heads=1, feed_forward=128, precision=np.float32,
    )  # fmt: skip
    data = tmp_path / "held out.jsonl"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a" * 200}]
    with data.open("w") as file:
        for number in range(24):
            turns[0]["content"] = f"{number}?"
            file.write(json.dumps({"messages": turns}) + "\n")
    flags = ("eval", "loss", str(data), "-m", str(model), "--template", "zephyr")
    process = subprocess.Popen(
        [*PROGRAM, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    with process:
        while process.poll() is None and not any(kept(home)):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    (rows,) = kept(home)
    scored = len(rows.splitlines())
    assert 0 < scored < 24
    assert f"Stopped: {scored} of 24 losses" in error.decode()
    done = run_here(*flags)
    assert done.returncode == 0, done.stderr
    (whole,) = kept(home)
    assert whole.startswith(rows)
    assert len(whole.splitlines()) == 24
