"""Models that are not llamas: those that chat do, and the others are told as what they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import gguf
import numpy as np
import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import ModelFileError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.gguf.kinds import check_can_chat
from openchat_local.models.library import ModelLibrary
from support.engines import asking, run
from support.openchat_gguf import add_vocabulary, openchat_vocabulary

Change = Callable[[gguf.GGUFWriter], None]
WIDTH, INNER, CONVOLUTION, STATE, RANK = 64, 128, 4, 16, 4


def written(path: Path, architecture: str, change: Change = lambda _: None) -> Path:
    """A header that says what its model is, and no weights."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(512)
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks of a Mamba, with zeros where others have heads, as its converter writes it."""
    path, vocabulary = tmp_path_factory.mktemp("mamba") / "mamba.gguf", openchat_vocabulary()
    writer, random = gguf.GGUFWriter(path, "mamba"), np.random.default_rng(0)
    writer.add_name("mamba openchat-3.5")
    writer.add_context_length(2**20)
    writer.add_block_count(2)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(CONVOLUTION)
    writer.add_ssm_inner_size(INNER)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    writer.add_layer_norm_rms_eps(1e-5)
    add_vocabulary(writer, vocabulary)

    def matrix(name: str, *shape: int) -> None:
        values = (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        writer.add_tensor(name, values)

    matrix("token_embd.weight", len(vocabulary.tokens), WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for block in (f"blk.{number}." for number in range(2)):
        writer.add_tensor(block + "attn_norm.weight", np.ones(WIDTH, np.float32))
        matrix(block + "ssm_in.weight", 2 * INNER, WIDTH)
        matrix(block + "ssm_conv1d.weight", INNER, CONVOLUTION)
        writer.add_tensor(block + "ssm_conv1d.bias", np.zeros(INNER, np.float32))
        matrix(block + "ssm_x.weight", RANK + 2 * STATE, INNER)
        matrix(block + "ssm_dt.weight", INNER, RANK)
        writer.add_tensor(block + "ssm_dt.bias", np.zeros(INNER, np.float32))
        writer.add_tensor(block + "ssm_a", -np.ones((INNER, STATE), np.float32))
        writer.add_tensor(block + "ssm_d", np.ones(INNER, np.float32))
        matrix(block + "ssm_out.weight", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_model_without_attention_is_described_installed_and_answers(
    mamba: Path, tmp_path: Path
) -> None:
    file = read_gguf(mamba)
    assert (file.head_count, file.head_counts_kv, file.key_length) == (0, (0, 0), 0)
    assert file.kv_bytes_per_token() == 0
    installed = ModelLibrary(tmp_path / "models").add(mamba, link=True)
    assert installed.card.shape.kv_values_per_token == 0
    options = EngineOptions(mamba, context=512, threads=1)
    with closing(LocalEngine(options)) as engine:
        first, finished = run(engine, asking("Hello", max_tokens=4))
        assert finished.usage.generated_tokens > 0
        assert run(engine, asking("Hello", max_tokens=4))[0] == first


def test_heads_that_a_transformer_should_have_are_missed(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelFileError, match=r"llama\.attention\.head_count"):
        _ = read_gguf(tmp_path / "m.gguf").head_count


@pytest.mark.parametrize(
    ("architecture", "change", "says"),
    [
        ("bert", lambda w: None, "an embedding model"),
        ("nomic-bert", lambda w: w.add_causal_attention(False), "an embedding model"),
        ("qwen3", lambda w: w.add_pooling_type(gguf.PoolingType.LAST), "an embedding model"),
        ("qwen3", lambda w: w.add_uint32("qwen3.pooling_type", 4), "a reranking model"),
        ("t5", lambda w: None, r"an encoder-decoder model \(T5\)"),
        ("t5encoder", lambda w: None, "an embedding model"),
        ("clip", lambda w: w.add_type("mmproj"), "the picture encoder of a model"),
        ("clip", lambda w: None, "the picture encoder of a model"),
        ("llama", lambda w: w.add_type("adapter"), "an adapter: use it with --adapter"),
    ],
)
def test_what_cannot_chat_is_told_as_what_it_is(
    architecture: str, change: Change, says: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "model.gguf", architecture, change)
    with pytest.raises(ModelFileError, match=says):
        check_can_chat(read_gguf(path))
    with (
        closing(LocalEngine(EngineOptions(path, vocab_only=True))) as engine,
        pytest.raises(ModelFileError, match=says),
    ):
        engine.load()
    with pytest.raises(ModelFileError):
        ModelLibrary(tmp_path / "models").add(path)
    assert not list((tmp_path / "models").glob("[!.]*"))


@pytest.mark.parametrize(
    "change", [lambda w: None, lambda w: w.add_pooling_type(gguf.PoolingType.NONE)]
)
def test_what_chats_is_let_pass(change: Change, tmp_path: Path) -> None:
    check_can_chat(read_gguf(written(tmp_path / "model.gguf", "llama", change)))
