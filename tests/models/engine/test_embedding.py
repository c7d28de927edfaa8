"""Texts as vectors, held against llama.cpp's own pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np
import pytest

from openchat_local.models.engine.decoding.embedding import EmbeddingJob, text_ids
from openchat_local.models.engine.decoding.llamacpp import Model
from openchat_local.models.engine.protocol import Passage, Pooling
from openchat_local.models.errors import ContextOverflow, EngineError
from openchat_local.models.gguf import read_gguf
from support.openchat_gguf import openchat_vocabulary, starter_vocabulary, write_model
from support.side_jobs import beside, fail, run_job

# llama.cpp has other kernels for one row, for few and for many, and attention rounds to float16.
ROUNDING = 1e-3
WORDS = "the river that wanted to be a sea and was one in the end " * 40
SOME = ["Żółw 東京 🚂", WORDS[:60], "One", "Two words", "Here are three words"]
TEXTS = ["One.", "", WORDS[:700], "Żółw 東京 🚂", WORDS, *(f"Number {n}" for n in range(90))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    model = Model(
        read_gguf(write_model(path, openchat_vocabulary(), embedding=128, precision=np.float32))
    )
    yield model
    model.close()


def embedded(
    model: Model,
    texts: Sequence[str | Passage],
    pooling: Pooling,
    seconds: float | None = None,
) -> np.ndarray:
    found: list[np.ndarray] = []
    run_job(EmbeddingJob(1, beside(model), texts, pooling, None, found.append, fail), seconds)
    (vectors,) = found
    return vectors


def pooled_by_llama_cpp(model: Model, ids: list[int], pooling: Pooling) -> np.ndarray:
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 1024
    parameters.embeddings = True
    parameters.pooling_type = (
        llama.LLAMA_POOLING_TYPE_MEAN if pooling == "mean" else llama.LLAMA_POOLING_TYPE_LAST
    )
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model.pointer, parameters)
    array = (llama.llama_token * len(ids))(*ids)
    assert llama.llama_decode(context, llama.llama_batch_get_one(array, len(ids))) == 0
    pointer = llama.llama_get_embeddings_seq(context, 0)
    vector = np.ctypeslib.as_array(pointer, shape=(model.width,)).copy()
    llama.llama_free(context)
    return vector


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_vectors_are_those_of_llama_cpps_own_pooling(model: Model, pooling: Pooling) -> None:
    vectors = embedded(model, TEXTS, pooling)
    assert vectors.shape == (len(TEXTS), 128)
    assert vectors.dtype == np.float32
    all_ids = list(text_ids(TEXTS, model.vocabulary, 1024))
    assert [len(ids) for ids in all_ids][:2] == [3, 1]  # BOS first
    for ids, vector in list(zip(all_ids, vectors, strict=True))[:12]:
        assert np.allclose(vector, pooled_by_llama_cpp(model, ids, pooling), rtol=0, atol=ROUNDING)


def test_a_text_alone_or_beside_others_in_small_steps_or_large_is_the_same_vector(
    model: Model,
) -> None:
    together = embedded(model, SOME, "mean")
    in_steps = embedded(model, SOME, "mean", 1e-9)
    assert np.allclose(together, in_steps, rtol=0, atol=ROUNDING)
    alone = embedded(model, SOME[3:4], "mean")
    assert np.allclose(together[3:4], alone, rtol=0, atol=ROUNDING)
    assert embedded(model, [], "mean").shape == (0, 128)


@pytest.mark.parametrize("seconds", [None, 1e-9])
def test_the_mean_of_a_passage_is_that_of_its_own_tokens(
    model: Model, seconds: float | None
) -> None:
    """Of n tokens, k before it: (n · mean of all - k · mean of the first k) / (n - k), since no
    token sees what comes after it."""
    ids = next(iter(text_ids([WORDS[:700]], model.vocabulary, 1024)))
    count, before = len(ids), len(ids) // 3
    passages = [Passage(tuple(ids), before), Passage(tuple(ids)), Passage(tuple(ids), count - 1)]

    found = embedded(model, passages, "mean", seconds)

    every, first = (pooled_by_llama_cpp(model, part, "mean") for part in (ids, ids[:before]))
    expected = (count * every - before * first) / (count - before)
    assert np.allclose(found[0], expected, rtol=0, atol=ROUNDING)
    assert np.allclose(found[1], every, rtol=0, atol=ROUNDING)
    last = pooled_by_llama_cpp(model, ids, "last")
    assert np.allclose(found[2], last, rtol=0, atol=ROUNDING)
    assert not np.allclose(found[0], found[1], rtol=0, atol=10 * ROUNDING)


@pytest.mark.parametrize(
    ("passage", "sentence"),
    [
        (Passage(()), "Text 1 of 1 is empty"),
        (Passage((1, 2), 2), "has 2 tokens and none from 2 on"),
        (Passage((1, 2), -1), "none from -1 on"),
        (Passage((1, -5)), "has the token -5"),
        (Passage((1, 10**6)), "has the token 1000000, and this model has"),
    ],
    ids=str,
)
def test_a_passage_that_is_none_is_refused(model: Model, passage: Passage, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        embedded(model, [passage], "mean")


def test_a_text_that_is_too_long_is_refused_with_both_numbers(model: Model) -> None:
    with pytest.raises(ContextOverflow, match=r"Text 2 of 2 is [\d,]+ tokens.*holds 1,024"):
        embedded(model, ["Short", WORDS * 3], "mean")


def test_a_text_without_any_token_is_refused(starter_path: Path, tmp_path: Path) -> None:
    vocabulary = starter_vocabulary(starter_path)  # it has no BOS
    model = Model(read_gguf(write_model(tmp_path / "tiny.gguf", vocabulary, embedding=64)))
    with pytest.raises(EngineError, match="Text 1 of 1 is empty"):
        embedded(model, [""], "last")
    model.close()
