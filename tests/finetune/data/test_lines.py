"""Lines of a file: JSON or a fault, never too much memory."""

from __future__ import annotations

import json
import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from openchat_local.finetune.data.faults import DataError, Fault
from openchat_local.finetune.data.line import MAX_LINE, Line
from openchat_local.finetune.data.lines import read_lines

from .conftest import WriteLines


def test_lines_are_numbered_and_blank_ones_left_out(write_lines: WriteLines) -> None:
    path = write_lines(b"\xef\xbb\xbf1\r", b"", b"  ", '"a\u2028b"', b"4")
    assert [*read_lines(path)] == [Line(1, 1), Line(4, "a\u2028b"), Line(5, 4)]


def test_the_last_line_needs_no_end(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"1\n2")
    assert [*read_lines(path)] == [Line(1, 1), Line(2, 2)]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{", "line 2: is not JSON (column 2: Expecting property name"),
        (b"1 2", "line 2: is not JSON (column 3: Extra data)"),
        (b'"\xff"', "line 2: is not UTF-8 (byte 2)"),
        (b"[" * 100_000, "line 2: is not JSON (nested too deeply)"),
        (b"1" * 5000, "line 2: is not JSON (Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(
    line: bytes, sentence: str, write_lines: WriteLines
) -> None:
    first, fault, last = read_lines(write_lines(b"1", line, b"3"))
    assert (first, last) == (Line(1, 1), Line(3, 3))
    assert str(fault).startswith(sentence)


def test_a_line_of_200_mib_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    with path.open("wb") as file:
        file.write(b"1\n")
        file.seek(200 * 2**20, 1)  # a hole: no disk space either
        file.write(b"\n3\n")
    tracemalloc.start()
    found = [*read_lines(path)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [Line(1, 1), Fault(2, "", "is longer than 16 MiB"), Line(3, 3)]
    assert peak < 4 * MAX_LINE


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_longest_line_is_read(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'"' + b"x" * (MAX_LINE - 2) + b'"' + end)
    (line,) = read_lines(path)
    assert isinstance(line, Line)
    path.write_bytes(b'"' + b"x" * (MAX_LINE - 1) + b'"' + end)
    (fault,) = read_lines(path)
    assert isinstance(fault, Fault)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n  "])
def test_a_json_list_is_read_value_by_value(
    start: bytes, indent: int | None, tmp_path: Path
) -> None:
    values = [{"a": ["]", "[", "é\n" * 40_000]}, 12345, {"b": {}}, "x", [1, 2]] * 3
    path = tmp_path / "data.jsonl"
    path.write_bytes(start + json.dumps(values, indent=indent, ensure_ascii=False).encode())
    assert [*read_lines(path)] == [Line(number, value) for number, value in enumerate(values, 1)]


def test_an_empty_json_list_holds_nothing(write_lines: WriteLines) -> None:
    assert [*read_lines(write_lines("[", "", "]"))] == []


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (['[{"a": 1},', '{"a": }]'], "line 2 (Expecting value)"),
        (['[{"a": 1}', '{"a": 2}]'], "line 2 (, is expected, but { is there)"),
        (['[{"a": 1},', ""], "line 3 (Expecting value)"),
        (['[{"a": 1}', "]", '{"a": 2}'], "line 3 (something follows its end)"),
        (["[" * 100_000], "line 1 (nested too deeply)"),
    ],
)
def test_a_json_list_that_breaks_off_is_told_with_its_place(
    lines: list[str], sentence: str, write_lines: WriteLines
) -> None:
    with pytest.raises(DataError) as raised:
        list(read_lines(write_lines(*lines)))
    assert sentence in str(raised.value)


def test_a_json_list_is_never_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    with path.open("w") as file:
        file.write("[" + ",".join(json.dumps({"text": "x" * 100_000}) for _ in range(300)) + "]")
    tracemalloc.start()
    count = sum(1 for _ in read_lines(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 300
    assert peak < 4 * 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.jsonl")
    with pytest.raises(DataError, match="is a pipe or a device"):
        list(read_lines(tmp_path / "data.jsonl"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        list(read_lines(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="is a folder"):
        list(read_lines(tmp_path))
