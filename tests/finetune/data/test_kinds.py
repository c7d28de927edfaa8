"""What files are: read whatever they came in, or named as what they are."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from openchat_local.finetune.data.faults import DataError, Fault
from openchat_local.finetune.data.line import Line
from openchat_local.finetune.data.lines import container_of, read_lines

VALUES = [{"prompt": f"Frage, {i}", "completion": 'Ja; 你好\n"ja"'} for i in range(3)]
JSONL = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in VALUES)
PRETTY = "\n".join(json.dumps(value, indent=2) for value in VALUES) + "\n"
CSV = "prompt{0}completion\r\n" + "".join(
    f'"Frage, {i}"{{0}}"Ja; 你好\n""ja"""\r\n' for i in range(3)
)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl.gz", gzip.compress(JSONL.encode()), "JSON lines in gzip"),
        ("a.json", gzip.compress(json.dumps(VALUES).encode()), "one JSON list in gzip"),
        ("a.jsonl.bz2", bz2.compress(JSONL.encode()), "JSON lines in bzip2"),
        ("a.xz", lzma.compress(JSONL.encode()), "JSON lines in xz"),
        ("a.json", PRETTY.encode(), "JSON in many lines"),
        ("a.jsonl", b"\xef\xbb\xbf" + PRETTY.encode(), "JSON in many lines"),
        ("a.json", json.dumps(VALUES).encode("utf-16"), "one JSON list"),
        ("a.csv", CSV.format(",").encode(), "CSV"),
        ("a.txt", CSV.format("\t").encode("utf-8-sig"), "CSV parted by tabs"),
        ("a.tsv", CSV.format(";").encode(), "CSV parted by ;"),
        ("a.csv", CSV.format("|").encode("utf-16"), "CSV parted by |"),
        ("a.csv.gz", gzip.compress(CSV.format(",").encode()), "CSV in gzip"),
        ("a.jsonl", JSONL.replace("\n", "\r\n").encode(), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_same_rows_come_out_of_whatever_they_are_in(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = [*read_lines(path)]
    assert [line.value for line in found if isinstance(line, Line)] == VALUES
    assert container_of(path).name == said


@pytest.mark.parametrize("name", ["a.jsonl.zst", "my 'data'.zst", "-n.zst"])
def test_the_command_makes_jsonl_beside_the_file_and_leaves_it_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("zstd") is None or shutil.which("sh") is None:
        pytest.skip("zstd or a shell is not here")
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    content = subprocess.run(["zstd", "-c"], input=JSONL.encode(), stdout=-1, check=True).stdout
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    sentence, command = str(caught.value).split("\n", 1)
    assert f"{name} is compressed with zstd, but JSON, CSV or Parquet is needed" in sentence
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_bytes() == content
    (made,) = (other for other in Path().iterdir() if other != path)
    assert f"this writes {made.name}, which" in sentence
    assert [line.value for line in read_lines(made) if isinstance(line, Line)] == VALUES
    # Once more: what is there now is not written over either.
    with pytest.raises(DataError) as caught:
        list(read_lines(path))
    other = re.search(r"this writes (.*), which", str(caught.value))
    assert other
    assert not Path(other[1]).exists()


@pytest.mark.parametrize(
    ("begins", "said"),
    [(b"PK\x03\x04", "ZIP"), (b"SQLite format 3\0", "SQLite"), (b"GGUF", "a model"),
     (b"%PDF-1.7", "PDF")],
)  # fmt: skip
def test_what_nothing_at_hand_unpacks_is_named(begins: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(begins + bytes(100))
    with pytest.raises(DataError, match=f"{said}.*write what it holds as JSONL"):
        list(read_lines(path))


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(DataError, match="git lfs pull"):
        list(read_lines(path))


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: b"\xfe\xff" + text.replace("\n", "\r\n").encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
        lambda text: text.encode("utf-8-sig"),
    ],
)
def test_utf_16_and_marks_are_read(encode: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(encode(JSONL))
    assert [*read_lines(path)] == [Line(i, value) for i, value in enumerate(VALUES, 1)]


def test_half_a_character_of_utf_16_is_a_fault_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(
        b"\xff\xfe" + '1\n"'.encode("utf-16-le") + b"\x00\xd8" + '"\n3\n'.encode("utf-16-le")
    )
    first, fault, last = read_lines(path)
    assert (first, last) == (Line(1, 1), Line(3, 3))
    assert isinstance(fault, Fault)
    assert fault.kind == "is not UTF-8"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_utf_16_that_breaks_off_is_a_sentence(name: str, tmp_path: Path) -> None:
    texts = {"a.jsonl": JSONL, "a.csv": CSV.format(","), "a.json": json.dumps(VALUES)[:-1]}
    path = tmp_path / name
    path.write_bytes(texts[name].encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"is not whole UTF-16|which breaks off in line 1"):
        list(read_lines(path))


@pytest.mark.parametrize("text", ["not json, at all\n", '{"a": 1}\n{\n', "hello\n", ""])
def test_what_is_merely_wrong_is_a_fault_of_its_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(text)
    assert all(isinstance(found, Line | Fault) for found in read_lines(path))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("broken", [lambda data: data[:-9], lambda data: data[:40] + data[60:]])
def test_a_broken_archive_is_a_sentence(
    pack: Callable[[bytes], bytes], broken: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(broken(pack((JSONL * 50).encode())))
    with pytest.raises(DataError, match=r"is compressed with \w+ and broken after .* once more"):
        list(read_lines(path))


def test_an_archive_that_grows_beyond_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openchat_local.finetune.data.containers.unpacking._HARMLESS", 2**20)
    path = tmp_path / "data.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(8 * 2**20)))
    with pytest.raises(DataError, match="unpacks to more than 300 times its size"):
        list(read_lines(path))
