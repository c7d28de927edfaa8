"""Tables: CSV row by row, Parquet and Arrow batch by batch; never too much memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openchat_local.finetune.data.containers import table
from openchat_local.finetune.data.faults import DataError, Fault
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.lines import container_of, read_lines

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def read(path: Path, text: str | bytes) -> list[Line | Fault]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [*read_lines(path)]


def test_a_row_has_the_number_of_the_line_that_it_begins_in(tmp_path: Path) -> None:
    text = '"prompt",completion\r\na,"two\nlines, and ""quotes"""\r\n\r\nb,c\r\n'
    assert read(tmp_path / "a.csv", text) == [
        Line(2, {"prompt": "a", "completion": 'two\nlines, and "quotes"'}),
        Line(5, {"prompt": "b", "completion": "c"}),
    ]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("x", "line 3: has not as many cells as the 2 columns (1;"),
        ("x,y,z", "line 3: has not as many cells as the 2 columns (3;"),
        ('"x"y,z', "line 3: is no row of a table ("),
        (b"x,gr\xfc\xdf", "line 3: is not UTF-8 (save the table as UTF-8)"),
    ],
)
def test_a_ragged_row_is_a_fault_and_the_others_are_read(
    row: str | bytes, sentence: str, tmp_path: Path
) -> None:
    raw = row if isinstance(row, bytes) else row.encode()
    first, fault, last = read(tmp_path / "a.csv", b"prompt,completion\na,b\n" + raw + b"\nc,d\n")
    assert (first, last) == (
        Line(2, {"prompt": "a", "completion": "b"}), Line(4, {"prompt": "c", "completion": "d"}),
    )  # fmt: skip
    assert str(fault).startswith(sentence)


def test_a_quote_that_is_not_closed_is_told_where_it_begins(tmp_path: Path) -> None:
    first, fault = read(tmp_path / "a.csv", 'prompt,completion\na,b\nc,"d\ne,f\n')
    assert first == Line(2, {"prompt": "a", "completion": "b"})
    assert str(fault) == "line 3: is no row of a table (a quote is not closed)"


def test_a_row_beyond_all_measure_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MAX_LINE", 2**12)
    rows = ["a,b", f"c,{'d' * 2**13}", "e,f", 'g,"' + "h\n" * 2**11]
    found = read(tmp_path / "a.csv", "prompt,completion\n" + "\n".join(rows))
    assert [line.value["prompt"] for line in found if isinstance(line, Line)] == ["a", "e"]
    faults = [fault for fault in found if isinstance(fault, Fault)]
    assert [fault.line for fault in faults[:2]] == [3, 5]
    assert all("longer than" in fault.kind for fault in faults[:2])


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two columns named 'prompt'"):
        read(tmp_path / "a.csv", "prompt,prompt\na,b\n")


def test_names_of_columns_that_do_not_end_are_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MAX_LINE", 2**12)
    with pytest.raises(DataError, match="without an end to the names of its columns"):
        read(tmp_path / "a.csv", 'prompt,"completion\n' + "a,b\n" * 2**12)


@pytest.mark.parametrize("text", ["", "\n", "prompt,completion\n", "\ufeff"])
def test_a_table_without_rows_holds_nothing(text: str, tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", text) == []


def test_cells_become_what_they_look_like_where_that_is_sure(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Q"}]
    cells = ["[1] see below", json.dumps(turns).replace('"', '""'), "0.5", "", "TRUE"]
    text = "prompt,messages,reward,weight,label\n" + ",".join(f'"{cell}"' for cell in cells)
    (line,) = read(tmp_path / "a.csv", text)
    assert isinstance(line, Line)
    assert line.value == {
        "prompt": "[1] see below", "messages": turns, "reward": 0.5, "label": True,
    }  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_table_is_never_held_in_memory(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with gzip.open(path, "wt", 1) if packed else path.open("w") as file:
        file.write("prompt,completion\n")
        for _ in range(60):
            file.write(f'a,"{"x" * 100_000}"\n')
    tracemalloc.start()
    count = sum(1 for _ in read_lines(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60
    assert peak < 2 * 2**20


# Columns


def columns(path: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path, **more)
    return path


def arrow(path: Path, rows: list[dict[str, Any]], *, stream: bool) -> Path:
    held = pa.Table.from_pylist(rows)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, held.schema) as writer:
        writer.write_table(held)
    return path


TURNS = [
    {"messages": [{"role": "user", "content": "Q", "weight": None},
                  {"role": "assistant", "content": "你好", "weight": 0.5}], "score": 4.5},
    {"messages": [{"role": "user", "content": None, "weight": None}, None], "score": None},
    {"messages": None, "score": float("nan")},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
def test_columns_are_rows_without_what_is_null(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        path = columns(tmp_path / "data", TURNS, row_group_size=2)
    else:
        path = arrow(tmp_path / "data.arrow", TURNS, stream=kind == "stream")
    assert [*read_lines(path)] == [
        Line(1, {"messages": [{"role": "user", "content": "Q"},
                              {"role": "assistant", "content": "你好", "weight": 0.5}],
                 "score": 4.5}),
        Line(2, {"messages": [{"role": "user"}]}),
        Line(3, {"score": "nan"}),
    ]  # fmt: skip
    assert container_of(path).name == ("Parquet" if kind == "parquet" else "Arrow")
    assert container_of(path).places.told(3) == "row 3"


def test_only_columns_that_mean_something_are_read(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", "picture": b"\x00" * 10}]
    path = columns(tmp_path / "a.parquet", rows)
    wanted = frozenset({"prompt", "completion"})
    assert [*read_lines(path, wanted)] == [Line(1, {"prompt": "a", "completion": "b"})]
    assert container_of(path, wanted).unread == ("picture",)
    (line,) = read_lines(path)
    assert isinstance(line, Line)
    assert line.value["picture"] == "10 bytes"


@pytest.mark.parametrize(
    "broken",
    [lambda data: data[:-40], lambda data: data[:4] + bytes(60) + data[64:], lambda _: b"PAR1"],
    ids=["end", "middle", "head"],
)
def test_a_broken_parquet_file_is_a_sentence(broken: Any, tmp_path: Path) -> None:
    path = columns(tmp_path / "a.parquet", [{"prompt": "a" * 50, "completion": "b" * 50}] * 3)
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(DataError, match=r"a.parquet is broken.*: fetch it once more"):
        list(read_lines(path))


def test_a_broken_arrow_file_is_a_sentence(tmp_path: Path) -> None:
    path = arrow(tmp_path / "a.arrow", TURNS, stream=True)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a.arrow is broken"):
        list(read_lines(path))


def test_without_pyarrow_its_command_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = columns(tmp_path / "a.parquet", TURNS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs the package pyarrow: .*install pyarrow\."):
        list(read_lines(path))


def test_a_parquet_file_is_never_held_in_memory(tmp_path: Path) -> None:
    def batches() -> Iterator[Any]:
        for number in range(8):
            texts = [f"{number}.{n}" + "x" * 10_000 for n in range(200)]
            yield pa.RecordBatch.from_pydict({"prompt": texts, "completion": texts})

    path = tmp_path / "a.parquet"
    first = next(batches())
    with pq.ParquetWriter(path, first.schema, use_dictionary=False) as writer:
        for batch in batches():
            writer.write_batch(batch)
    code = (
        "import pyarrow, sys; from pathlib import Path\n"
        "from openchat_local.finetune.data.lines import read_lines\n"
        "print(sum(1 for _ in read_lines(Path(sys.argv[1]))))\n"
        "print(pyarrow.default_memory_pool().max_memory())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    rows, peak = map(int, done.stdout.split())
    assert rows == 1600
    assert peak < 12 * 2**20  # of 32 MB
