"""What was measured is kept, and a result never takes the place of anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_local.finetune.evaluation.keeping import ResultError, write_result
from openchat_local.finetune.evaluation.result import Picture, Result, Table, made_by
from openchat_local.finetune.evaluation.rows import RowFile, cache_file, digest_of

SVG = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'


def _result(title: str = "A measure", **fields: object) -> Result:
    return Result("loss", title, {"versions": {}}, {"figure": 1.5}, **fields)  # type: ignore[arg-type]


def test_rows_outlive_the_process_that_measured_them(tmp_path: Path) -> None:
    path = cache_file(tmp_path, "loss", {"model": "a"})
    with RowFile(path) as rows:
        rows.append({"row": 0, "text": "naïve 你好\n"})
        rows.append({"row": 1})
    with path.open("ab") as file:
        file.write(b'{"row": 2, "te')  # killed here
    with RowFile(path) as again:
        assert again.rows() == [{"row": 0, "text": "naïve 你好\n"}, {"row": 1}]
        again.append({"row": 3})
        assert [row["row"] for row in again.rows()] == [0, 1, 3]


def test_where_rows_are_follows_from_all_that_decided_them(tmp_path: Path) -> None:
    one = cache_file(tmp_path, "loss", {"model": "a", "data": "b"})
    assert one == cache_file(tmp_path, "loss", {"data": "b", "model": "a"})
    assert one != cache_file(tmp_path, "loss", {"model": "a", "data": "c"})
    assert digest_of({"a": (1, 2)}) == digest_of({"a": [1, 2]})


def test_a_result_is_a_folder_that_says_everything(tmp_path: Path) -> None:
    folder = tmp_path / "new folder" / "result"
    table = Table("Losses", ("class", "loss"), [("<b>gpt4</b>", "1.25")], note="In nats.")
    picture = Picture("ladder", "What each brings.", SVG, b"png")
    rows = [{"row": 0, "answer": "</pre><script>alert(1)</script>"}]
    report = write_result(
        folder,
        _result(tables=[table], pictures=[picture], rows=rows, sentences=["It is < better."]),
    )
    page = report.read_text()
    assert "&lt;b&gt;gpt4&lt;/b&gt;" in page
    assert "<script>" not in page
    assert '<path d="M0 0"/>' in page
    assert "<?xml" not in page
    assert json.loads((folder / "summary.json").read_text())["figure"] == 1.5
    assert json.loads((folder / "rows.jsonl").read_text()) == rows[0]
    assert (folder / "ladder.svg").read_text() == SVG
    assert (folder / "ladder.png").read_bytes() == b"png"


def test_a_result_is_replaced_by_a_newer_one_and_its_runs_stay(tmp_path: Path) -> None:
    write_result(tmp_path / "r", _result("The old one"))
    (tmp_path / "r" / "runs").mkdir()
    (tmp_path / "r" / "runs" / "weights").write_text("long hours")
    (tmp_path / "r" / "ladder.md").write_text("The old one")
    report = write_result(tmp_path / "r", _result("The new one"))
    assert "The new one" in report.read_text()
    assert not (tmp_path / "r" / "ladder.md").exists()
    assert (tmp_path / "r" / "runs" / "weights").read_text() == "long hours"


def test_a_result_that_a_kill_left_half_written_beside_its_runs_is_written_anew(
    tmp_path: Path,
) -> None:
    (tmp_path / "r" / "runs").mkdir(parents=True)
    (tmp_path / "r" / "made_by.json").write_text('{"pictures": ["ladder.svg"]}')
    (tmp_path / "r" / "ladder.svg").write_text(SVG)
    assert "The whole one" in write_result(tmp_path / "r", _result("The whole one")).read_text()
    assert not (tmp_path / "r" / "ladder.svg").exists()


def test_a_folder_with_runs_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine" / "runs").mkdir(parents=True)
    (tmp_path / "mine" / "README.md").write_text("years")
    with pytest.raises(ResultError, match="something else"):
        write_result(tmp_path / "mine", _result())
    assert (tmp_path / "mine" / "README.md").read_text() == "years"


@pytest.mark.parametrize("name", ["thesis.tex", "picture.png"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("years")
    with pytest.raises(ResultError, match=f"something else \\({name}\\)"):
        write_result(tmp_path / "mine", _result())
    assert (tmp_path / "mine" / name).read_text() == "years"


def test_a_stranger_beside_a_result_keeps_it_from_being_replaced(tmp_path: Path) -> None:
    write_result(tmp_path / "r", _result("The old one"))
    (tmp_path / "r" / "notes.txt").write_text("mine")
    with pytest.raises(ResultError, match=r"notes\.txt"):
        write_result(tmp_path / "r", _result())
    assert (tmp_path / "r" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["notes.md", "mine.png"])
def test_what_somebody_put_beside_a_result_is_not_taken_for_its_own(
    tmp_path: Path, name: str
) -> None:
    own = Picture("ladder", "", SVG, b"png")
    write_result(tmp_path / "r", _result(pictures=[own]))
    write_result(tmp_path / "r", _result())
    assert not (tmp_path / "r" / "ladder.svg").exists()
    (tmp_path / "r" / "runs").mkdir()
    (tmp_path / "r" / name).write_text("mine")
    with pytest.raises(ResultError, match=name):
        write_result(tmp_path / "r", _result())
    assert (tmp_path / "r" / name).read_text() == "mine"


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "dev.jsonl")
        files[-1].write_text(folder)
    assert list(made_by("loss", files=files[:1])["files"]) == ["dev.jsonl"]
    assert list(made_by("loss", files=files)["files"]) == ["one/dev.jsonl", "two/dev.jsonl"]
    assert len(made_by("loss", files=[*files, files[0]])["files"]) == 3


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="is a file"):
        write_result(tmp_path / "file", _result())
