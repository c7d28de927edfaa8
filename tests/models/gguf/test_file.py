"""Reading GGUF headers: what they say, and what is wrong with a bad file."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_cpp import _ggml

from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.header import GGML_TYPES, LazyArray

FACTS = (
    "architecture", "name", "chat_template", "context_length", "block_count",
    "embedding_length", "head_count", "head_count_kv", "head_counts_kv", "key_length",
    "value_length", "vocab_size", "fingerprint",
)  # fmt: skip


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small complete GGUF file: every kind of value, an array too long to keep, tensors."""
    path = tmp_path_factory.mktemp("small") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_context_length(512)
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv([2, 1])
    writer.add_bool("some.flag", True)
    writer.add_float64("some.number", 0.5)
    writer.add_array("some.words", ["a", "b\N{GREEK SMALL LETTER BETA}"])
    writer.add_token_list([f"t{i}" for i in range(1500)])
    writer.add_token_scores([float(i) for i in range(1500)])
    writer.add_tensor("one", np.ones((3, 64), dtype=np.float32))
    writer.add_tensor("two", np.ones((64,), dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    """Puts bytes into a file."""

    def write(content: bytes) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write


def test_the_starter_describes_itself(starter_path: Path) -> None:
    model = read_gguf(starter_path)
    assert model.architecture == "llama"
    assert model.name.startswith("Smollm2 135M")
    assert (model.context_length, model.block_count, model.embedding_length) == (8192, 30, 576)
    assert (model.head_count, model.head_count_kv, model.key_length) == (9, 3, 64)
    assert model.vocab_size == 49152
    assert model.kv_bytes_per_token() == 30 * 3 * (64 + 64) * 2
    assert model.chat_template is not None
    assert "<|im_start|>" in model.chat_template


def test_metadata_and_tensors_are_those_that_the_gguf_package_reads(starter_path: Path) -> None:
    ours, theirs = read_gguf(starter_path), gguf.GGUFReader(starter_path)
    for key, value in ours.metadata.items():
        expected = theirs.fields[key].contents()
        assert (list(value) if isinstance(expected, list) else value) == expected, key
    assert len(ours.metadata) == sum(not key.startswith("GGUF.") for key in theirs.fields)
    assert [
        (tensor.name, tensor.shape, tensor.type, tensor.offset, tensor.byte_size)
        for tensor in ours.tensors
    ] == [
        (
            tensor.name,
            tuple(map(int, tensor.shape)),
            tensor.tensor_type.name,
            int(tensor.data_offset),
            int(tensor.n_bytes),
        )
        for tensor in theirs.tensors
    ]


def test_every_tensor_type_has_the_size_that_llama_cpp_and_the_gguf_package_give_it() -> None:
    sizes = {int(kind): (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert sizes.items() <= GGML_TYPES.items()
    library = _ggml.libggml
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    known = {
        number: (
            library.ggml_type_name(number).decode().upper(),
            library.ggml_blck_size(number),
            library.ggml_type_size(number),
        )
        for number in range(llama_cpp.GGML_TYPE_COUNT)
    }
    known = {number: row for number, row in known.items() if row[1]}  # the others were removed
    known[9] = sizes[9]  # of intermediate results only, and its size has changed
    assert known == GGML_TYPES


def test_layers_may_differ_in_key_value_heads(small: bytes, file: Callable[[bytes], Path]) -> None:
    model = read_gguf(file(small))
    assert model.head_counts_kv == (2, 1)
    assert model.head_count_kv == 2
    assert model.kv_bytes_per_token(type_size=4) == (2 + 1) * (16 + 16) * 4
    assert model.metadata["some.words"] == ["a", "bβ"]
    assert model.metadata["tokenizer.ggml.tokens"][1499] == "t1499"
    assert model.metadata["tokenizer.ggml.scores"][:2] == [0.0, 1.0]


def test_a_fingerprint_follows_the_content_and_not_the_name(small: bytes, tmp_path: Path) -> None:
    def fingerprint(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return read_gguf(tmp_path / name).fingerprint

    changed_name = small.replace(b"small", b"smell", 1)
    changed_weight = small[:-130] + b"\x01" + small[-129:]
    first = fingerprint("a", small)
    assert first == fingerprint("b", small)
    assert len({first, *(fingerprint("c", other) for other in (changed_name, changed_weight))}) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (struct.pack("<Q", 64) + b'{"weight":{"dtype":"F32"}}', "safetensors"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"lmgg\x01\x00", "GGML"),
        (b"hello", "is not a GGUF file;"),
        (b"GGUF\x00\x00\x00\x03", "big-endian"),
        (b"GGUF" + struct.pack("<I", 1), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "tensors and 0 keys claimed"),
        (b"GGUF" + struct.pack("<I", 3), "ends in the middle of its header"),
    ],
)
def test_what_is_no_gguf_file_is_named(
    content: bytes, said: str, file: Callable[[bytes], Path]
) -> None:
    path = file(content)
    with pytest.raises(ModelFileError, match=said) as error:
        read_gguf(path)
    assert str(path) in str(error.value)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no file .*nowhere"):
        read_gguf(tmp_path / "nowhere.gguf")
    with pytest.raises(ModelFileError, match="is a directory"):
        read_gguf(tmp_path)


@pytest.mark.parametrize("missing", [1, 100, 1000])
def test_a_truncated_file_says_how_much_is_missing(
    missing: int, starter_path: Path, tmp_path: Path
) -> None:
    whole = starter_path.stat().st_size
    path = tmp_path / "cut.gguf"
    with starter_path.open("rb") as source, path.open("wb") as target:
        target.write(source.read(read_gguf(starter_path).data_offset))
        target.truncate(whole - missing)
    with pytest.raises(ModelFileError, match=f"is {missing} bytes short.*fetch it again"):
        read_gguf(path)


def test_a_file_that_ends_in_its_header_is_truncated(
    small: bytes, file: Callable[[bytes], Path]
) -> None:
    for end in range(24, 400, 25):
        said = f"ends in the middle of its header, after {end} bytes.*fetch it again"
        with pytest.raises(ModelFileError, match=said):
            read_gguf(file(small[:end]))


def test_a_file_that_ends_in_its_vocabulary_is_truncated(
    starter_path: Path, file: Callable[[bytes], Path]
) -> None:
    with starter_path.open("rb") as source:
        start = source.read(300_000)
    for end in (10_000, 300_000):
        with pytest.raises(ModelFileError, match="ends in the middle of its header"):
            read_gguf(file(start[:end]))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in the file system")
def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    for path in (tmp_path / "pipe.gguf", Path(os.devnull)):
        with pytest.raises(ModelFileError, match="is not a regular file"):
            read_gguf(path)


def test_a_part_whose_name_does_not_say_so_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    writer.add_uint16("split.count", 3)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match="one of 3 parts"):
        read_gguf(tmp_path / "part.gguf")


@pytest.mark.parametrize("name", ["m.gguf-split-a", "m.Q8_0.gguf.part2of3"])
def test_a_piece_of_a_cut_file_is_to_be_joined(name: str, small: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(small)
    with pytest.raises(ModelFileError, match=r"join all pieces .* into one file m.*gguf,"):
        read_gguf(tmp_path / name)


def test_a_type_that_llama_cpp_has_dropped_is_named(
    small: bytes, file: Callable[[bytes], Path]
) -> None:
    place = small.index(b"two") + 3 + 4 + 8  # after a name: dimensions, of which there is one
    dropped = small[:place] + (33).to_bytes(4, "little") + small[place + 4 :]
    with pytest.raises(ModelFileError, match=r"Q4_0_8_8, which .* no longer reads: fetch .* Q4_0,"):
        read_gguf(file(dropped))


def test_an_adapter_has_no_context_length(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "adapter.gguf", "llama")
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    model = read_gguf(tmp_path / "adapter.gguf")
    with pytest.raises(ModelFileError, match=r"llama\.context_length"):
        _ = model.context_length


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 900) | st.integers(0, 40_000),
            st.binary(min_size=1, max_size=8) | st.just(b"\xff" * 8),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 400),
)
def test_a_damaged_header_gives_nothing_worse_than_a_model_file_error(
    small: bytes, file: Callable[[bytes], Path], changes: list[tuple[int, bytes]], cut: int
) -> None:
    content = bytearray(small[: len(small) - cut])
    for position, replacement in changes:
        if position + len(replacement) <= len(content):
            content[position : position + len(replacement)] = replacement
    try:
        model = read_gguf(file(bytes(content)))
    except ModelFileError:
        return
    for name in FACTS:
        with suppress(ModelFileError):  # and nothing else: a fact may be missing
            getattr(model, name)
    with suppress(ModelFileError):
        assert model.kv_bytes_per_token() > 0
    for value in model.metadata.values():
        if isinstance(value, LazyArray):
            assert len(list(value)) == len(value)
