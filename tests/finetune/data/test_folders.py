"""Folders of data: what `datasets` wrote, a copy from the Hub, or files as they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.containers.folder import source_of
from openchat_local.finetune.data.faults import DataError
from openchat_local.finetune.data.line import MOST_IN_A_FILE, Line
from openchat_local.finetune.data.lines import container_of, read_lines


def rows(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": t, "completion": t}) + "\n" for t in texts))
    return path


def read(path: Path) -> list[str]:
    return [line.value["prompt"] for line in read_lines(path) if isinstance(line, Line)]


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    rows(tmp_path / "b.jsonl", "2", "3")
    rows(tmp_path / "a.jsonl", "1")
    rows(tmp_path / "more" / "c.jsonl", "4")
    (tmp_path / "d.csv").write_text("prompt,completion\n5,x\n")
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".git").mkdir()
    rows(tmp_path / ".git" / "e.jsonl", "no")
    assert read(tmp_path) == ["1", "2", "3", "5", "4"]
    found = container_of(tmp_path)
    assert found.name == "4 files, JSON lines, CSV"
    numbers = [line.number for line in read_lines(tmp_path) if isinstance(line, Line)]
    assert numbers[:3] == [1, MOST_IN_A_FILE + 1, MOST_IN_A_FILE + 2]
    assert [found.places.told(number) for number in numbers] == [
        "a.jsonl, line 1", "b.jsonl, line 1", "b.jsonl, line 2", "d.csv, line 2",
        "more/c.jsonl, line 1",
    ]  # fmt: skip


def test_of_splits_train_is_read_and_the_others_by_their_name(tmp_path: Path) -> None:
    data = tmp_path / "mine"
    rows(data / "data" / "train-00000-of-00002.jsonl", "1")
    rows(data / "data" / "train-00001-of-00002-0a1b.jsonl", "2")
    rows(data / "data" / "validation-00000-of-00001.jsonl", "v")
    rows(data / "data" / "test_sft-00000-of-00001.jsonl", "t")
    rows(data / "extra.jsonl", "no")  # it names no split, and others do
    assert read(data) == ["1", "2"]
    assert read(data / "train") == ["1", "2"]
    assert read(data / "validation") == ["v"]
    assert read(data / "test_sft") == ["t"]
    assert {other.name for other in container_of(data).others} == {"validation", "test_sft"}
    assert container_of(data / "validation").title == "mine/validation"
    with pytest.raises(DataError, match="cannot be read"):
        read(data / "dev2")


def test_of_several_splits_without_train_one_is_asked_for(tmp_path: Path) -> None:
    rows(tmp_path / "train_sft-00000-of-00001.jsonl", "1")
    rows(tmp_path / "test_sft-00000-of-00001.jsonl", "2")
    assert read(tmp_path) == ["1"]
    rows(tmp_path / "train_gen-00000-of-00001.jsonl", "3")
    with pytest.raises(DataError, match=r"holds the splits .*: name one, such as .*train_gen"):
        read(tmp_path)


def test_of_several_configurations_one_is_asked_for(tmp_path: Path) -> None:
    for name in ("main", "socratic"):
        for split in ("train", "test"):
            rows(tmp_path / name / f"{split}-00000-of-00001.jsonl", f"{name} {split}")
    with pytest.raises(DataError, match=r"several data sets, main, socratic: name one, such as"):
        read(tmp_path)
    assert read(tmp_path / "socratic") == ["socratic train"]
    assert read(tmp_path / "socratic" / "test") == ["socratic test"]


def test_what_a_card_says_of_configurations_is_kept_to(tmp_path: Path) -> None:
    card = {
        "configs": [
            {"config_name": "default", "data_files": [
                {"split": "train", "path": "a/*.jsonl"}, {"split": "test", "path": ["b.jsonl"]}]},
            {"config_name": "other", "data_files": "c.jsonl"},
            {"config_name": "evil", "data_files": ["../../*", "/etc/passwd"]},
        ]
    }  # fmt: skip
    (tmp_path / "README.md").write_text(f"---\n{json.dumps(card)}\n---\nwords\n")
    rows(tmp_path / "a" / "x.jsonl", "1")
    rows(tmp_path / "b.jsonl", "2")
    rows(tmp_path / "c.jsonl", "3")
    assert read(tmp_path) == ["1"]
    assert read(tmp_path / "test") == ["2"]
    assert read(tmp_path / "other") == ["3"]
    assert read(tmp_path / "other" / "train") == ["3"]


@pytest.mark.parametrize("card", ["---\n[\n---\n", "---\nconfigs: 3\n---\n", "---\n- x\n---\n"])
def test_a_card_that_says_nothing_is_passed_over(card: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(card)
    rows(tmp_path / "a.jsonl", "1")
    assert read(tmp_path) == ["1"]


def saved(folder: Path, *texts: str, names: list[str] | None = None) -> Path:
    rows(folder / "data-00000-of-00001.arrow", *texts)  # what it holds is told by how it begins
    listed: list[Any] = [{"filename": name} for name in names or ["data-00000-of-00001.arrow"]]
    (folder / "state.json").write_text(json.dumps({"_data_files": listed}))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_what_datasets_saved_is_its_files(tmp_path: Path) -> None:
    assert read(saved(tmp_path / "one", "1", "2")) == ["1", "2"]
    for split in ("train", "test"):
        saved(tmp_path / "several" / split, split)
    (tmp_path / "several" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert read(tmp_path / "several") == ["train"]
    assert read(tmp_path / "several" / "test") == ["test"]
    assert source_of(tmp_path / "several").others == (tmp_path / "several" / "test",)


def test_a_saved_folder_names_nothing_outside_of_it(tmp_path: Path) -> None:
    rows(tmp_path / "secret.jsonl", "secret")
    for name in ("../secret.jsonl", str(tmp_path / "secret.jsonl"), "gone.arrow"):
        with pytest.raises(DataError, match=r"which state\.json names, is missing"):
            read(saved(tmp_path / "data", "1", names=[name]))


def test_a_choice_among_saved_rows_is_not_passed_over(tmp_path: Path) -> None:
    state = json.loads((saved(tmp_path, "1") / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    (tmp_path / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match="flatten_indices"):
        read(tmp_path)


def test_a_folder_without_data_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text("x")
    with pytest.raises(DataError, match=r"is a folder that holds no data \(.arrow, .csv"):
        read(tmp_path)
