"""A base model is known again in every quantisation, and no other one passes for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest

from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.gguf.dequantise import dequantise
from openchat_local.models.gguf.header import GGML_TYPES
from openchat_local.models.library.identity import BaseIdentity, difference, identity_of
from support.adapters import write_f32
from support.openchat_gguf import TinyVocabulary, write_model
from support.quantised import quantised

TYPES = ("Q8_0", "Q6_K", "Q5_K", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "Q3_K", "Q2_K", "BF16")


@pytest.fixture(scope="module")
def vocabulary() -> TinyVocabulary:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "a"]
    kinds = ["unknown", "control", "control", *["byte"] * 256, "normal"]
    return TinyVocabulary(
        model="llama", tokens=tokens, kinds=kinds, bos=1, eos=2, add_bos=True,  # type: ignore[arg-type]
        scores=[0.0] * len(tokens),
    )  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, vocabulary: TinyVocabulary) -> Path:
    return write_model(tmp_path_factory.mktemp("base") / "base.gguf", vocabulary, blocks=3)


@pytest.fixture(scope="module")
def identity(plain: Path) -> BaseIdentity:
    return identity_of(read_gguf(plain))


@pytest.fixture(scope="module")
def in_type(plain: Path) -> Callable[[str], GGUFFile]:
    return cache(lambda type: read_gguf(quantised(plain, type)))


@pytest.mark.parametrize("type", TYPES)
def test_any_quantisation_of_a_model_is_that_model(
    type: str, identity: BaseIdentity, plain: Path, in_type: Callable[[str], GGUFFile]
) -> None:
    assert difference(identity, in_type(type)) is None
    own = identity_of(in_type(type))
    assert difference(own, read_gguf(plain)) is None
    assert difference(own, in_type("Q2_K")) is None


def changed(source: Path, name: str, tensor: str, by: float) -> GGUFFile:
    """A copy with normal noise of that size added to a tensor."""
    shape = next(t.shape for t in read_gguf(source).tensors if t.name == tensor)[::-1]
    noise = np.random.default_rng(7).standard_normal(shape).astype(np.float32) * by
    return read_gguf(write_f32(source, source.with_name(name), {tensor: noise}))


def test_other_weights_are_another_model_even_in_two_bits(
    plain: Path, identity: BaseIdentity, in_type: Callable[[str], GGUFFile]
) -> None:
    other = changed(plain, "other.gguf", "blk.1.ffn_down.weight", 0.1)
    assert difference(identity, other) == "other weights in blk.1.ffn_down.weight"
    worst = identity_of(in_type("Q2_K"))
    assert difference(worst, other) == "other weights in blk.1.ffn_down.weight"
    low = in_type("Q2_K")
    assert difference(identity_of(other), low) == "other weights in blk.1.ffn_down.weight"


def test_a_sibling_whose_matrices_are_as_near_as_a_quantisation_is_told_by_its_norms(
    plain: Path, identity: BaseIdentity
) -> None:
    sibling = changed(plain, "sibling.gguf", "blk.2.attn_norm.weight", 1e-3)
    assert difference(identity, sibling) == "other norms"


def test_other_sizes_and_another_vocabulary_are_told(
    plain: Path, identity: BaseIdentity, vocabulary: TinyVocabulary
) -> None:
    tokens = [*vocabulary.tokens[:-1], "b"]
    renamed = replace(vocabulary, tokens=tokens)
    other = write_model(plain.with_name("renamed.gguf"), renamed, blocks=3)
    assert difference(identity, read_gguf(other)) == "another vocabulary"
    fewer = write_model(plain.with_name("fewer.gguf"), vocabulary, blocks=2)
    assert difference(identity, read_gguf(fewer)) == "other sizes"


def test_an_identity_survives_json_and_nonsense_is_none(identity: BaseIdentity) -> None:
    assert BaseIdentity.from_json(identity.as_json()) == identity
    broken = replace(identity, samples=(replace(identity.samples[0], values="!"),))
    for text in ("", "[]", "{}", '{"samples": 1}', broken.as_json()):
        assert BaseIdentity.from_json(text) is None


@pytest.mark.parametrize("type", [n for n, *_ in GGML_TYPES.values() if n in ("F16", *TYPES)])
def test_numbers_are_those_of_the_gguf_package(
    type: str, plain: Path, in_type: Callable[[str], GGUFFile]
) -> None:
    file = read_gguf(plain) if type == "F16" else in_type(type)
    tensor = next(t for t in file.tensors if t.name == "blk.0.ffn_up.weight")
    assert tensor.type == type
    data = file.path.read_bytes()[tensor.offset : tensor.offset + tensor.byte_size]
    ours = dequantise(data, type)
    assert ours is not None
    raw = np.frombuffer(data, np.uint8).reshape(tensor.shape[1], -1)
    if type == "F16":
        raw = raw.view(np.float16)
    theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[type])
    np.testing.assert_allclose(ours, theirs.astype(np.float32).ravel(), rtol=1e-6, atol=1e-7)


def test_a_type_that_only_llama_cpp_knows_is_read() -> None:
    block = np.float16(0.5).tobytes() + bytes([0b11_10_01_00]) * 16
    values = dequantise(block, "Q2_0")
    assert values is not None
    assert values.shape == (64,)
    assert len(set(values.tolist())) == 4
