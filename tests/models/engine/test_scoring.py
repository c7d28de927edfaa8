"""Log-probabilities of given tokens, held against a plain llama.cpp context and NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import llama_cpp.llama_cpp as llama
import numpy as np
import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.decoding.llamacpp import Aborted, Adapter, Context, Model, Rows
from openchat_local.models.engine.decoding.prefix_tree import Row
from openchat_local.models.engine.decoding.scoring import ScoringJob, Tokens, tokens_of
from openchat_local.models.engine.decoding.side_context import SideContext
from openchat_local.models.engine.decoding.side_job import Beside
from openchat_local.models.engine.protocol import AdapterChoice, Score, ScoreRequest
from openchat_local.models.errors import ContextOverflow, EngineError
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.template import choose_template
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.side_jobs import beside, fail, run_job

# llama.cpp has other kernels for one row, for few and for many, and attention rounds to float16.
ROUNDING = 3e-3
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return read_gguf(write_model(path, openchat_vocabulary(), embedding=128, precision=np.float32))


@pytest.fixture(scope="module")
def model(file: GGUFFile) -> Iterator[Model]:
    model = Model(file)
    yield model
    model.close()


def ids(count: int) -> list[int]:
    return [int(id) for id in RANDOM.integers(100, 30000, count)]


def asking(
    prompt: Sequence[int], continuation: Sequence[int], top: int = 0, adapter: Path | None = None
) -> ScoreRequest:
    choice = None if adapter is None else AdapterChoice(adapter, 2.0)
    return ScoreRequest(tuple(prompt), tuple(continuation), top, choice)


def job_for(
    engine: Beside,
    requests: Sequence[ScoreRequest],
    emit: Callable[[list[Score]], None],
    finish: Callable[[], None] = lambda: None,
) -> ScoringJob:
    def render(request: ScoreRequest, _condition: str) -> Tokens:
        assert isinstance(request.prompt, tuple)
        assert isinstance(request.continuation, tuple)
        return Tokens(request.prompt, request.continuation)

    return ScoringJob(1, engine, requests, render, emit, finish, fail)


def scored(
    model: Model, requests: Sequence[ScoreRequest], seconds: float | None = None
) -> list[Score]:
    """All of them, in order."""
    found: list[Score] = []
    run_job(job_for(beside(model), requests, found.extend), seconds)
    assert len(found) == len(requests)
    return sorted(found, key=lambda score: score.index)


def log_softmax(model: Model, tokens: Sequence[int]) -> np.ndarray:
    """(tokens, vocabulary) float64: what a context of llama.cpp's defaults gives, which shares
    nothing with the engine's, and a softmax of its own."""
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model.pointer, parameters)
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    for row, token in enumerate(tokens):
        batch.token[row], batch.pos[row], batch.logits[row] = token, row, True
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
    batch.n_tokens = len(tokens)
    assert llama.llama_decode(context, batch) == 0
    shape = len(tokens), model.vocabulary.n_tokens
    logits = np.ctypeslib.as_array(llama.llama_get_logits(context), shape=shape).astype(np.float64)
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def expected(model: Model, request: ScoreRequest) -> np.ndarray:
    rows = log_softmax(model, [*request.prompt, *request.continuation])
    return rows[len(request.prompt) - 1 : -1]


def test_scores_are_those_of_a_softmax_over_all_logits(model: Model) -> None:
    requests = [asking(ids(20), ids(count), top=5) for count in (1, 7, 150)]
    for request, score in zip(requests, scored(model, requests), strict=True):
        rows, continuation = expected(model, request), list(request.continuation)
        each = np.arange(len(rows))
        assert score.ids == tuple(continuation)
        assert np.allclose(score.log_probabilities, rows[each, continuation], rtol=0, atol=1e-5)
        assert score.log_probability == pytest.approx(rows[each, continuation].sum(), abs=1e-4)
        best = np.argsort(-rows, axis=1)[:, :5]
        assert [tuple(id for id, _ in top) for top in score.top] == [tuple(row) for row in best]
        values = [[value for _, value in top] for top in score.top]
        assert np.allclose(values, np.take_along_axis(rows, best, 1), rtol=0, atol=1e-5)


def test_of_a_continuation_only_what_is_asked_about_is_judged_in_one_pass(model: Model) -> None:
    whole = asking(ids(20), ids(40), top=2)
    stretches = ((0, 3), (17, 18), (30, 40))
    (every,), (some,) = (
        scored(model, [request]) for request in (whole, replace(whole, judged=stretches))
    )
    chosen = [index for start, end in stretches for index in range(start, end)]
    assert some.ids == tuple(every.ids[index] for index in chosen)
    assert (some.tokens, len(some.greedy), len(some.top)) == (20 + 39, 14, 14)
    wanted = [every.log_probabilities[index] for index in chosen]
    assert np.allclose(some.log_probabilities, wanted, rtol=0, atol=ROUNDING)
    assert some.log_probability == pytest.approx(sum(wanted), abs=14 * ROUNDING)


@pytest.mark.parametrize("judged", [(), ((2, 2),), ((-1, 2),), ((0, 6),), ((2, 4), (3, 5))])
def test_stretches_that_cannot_be_judged_are_refused(
    model: Model, judged: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(EngineError, match="cannot be judged in a continuation of 5 tokens"):
        scored(model, [replace(asking(ids(3), ids(5)), judged=judged)])


def test_the_greedy_choice_is_told_from_others(model: Model) -> None:
    prompt, reply = ids(12), []
    for _ in range(6):
        (score,) = scored(model, [asking([*prompt, *reply], [5], top=1)])
        reply.append(score.top[0][0][0])
    (score,) = scored(model, [asking(prompt, [*reply[:3], reply[3] + 1, *reply[4:]])])
    assert score.greedy[:4] == (True, True, True, False)
    assert score.top == ((),) * 6


def test_what_requests_have_in_common_is_evaluated_once(model: Model) -> None:
    system, question = ids(90), ids(30)
    options = [asking([*system, *question], ids(count)) for count in (1, 1, 2, 6)]
    others = [asking([*system, *ids(25)], ids(4)) for _ in range(30)]
    requests = [*others[:15], *options, *others[15:]]
    found = scored(model, requests)
    evaluated = sum(score.tokens - score.shared_tokens for score in found)
    assert evaluated == 90 + 30 + (1 + 5) + 30 * (25 + 3)
    for request, score in zip(requests, found, strict=True):
        if score.index % 4 == 3:
            rows = expected(model, request)
            wanted = rows[np.arange(len(rows)), list(request.continuation)]
            assert np.allclose(score.log_probabilities, wanted, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("seconds", [None, 1e-9])
def test_how_much_is_done_at_a_time_changes_no_score(model: Model, seconds: float | None) -> None:
    prompt = ids(40)
    requests = [asking([*prompt, *ids(3)], ids(5)) for _ in range(4)]
    found = [score.log_probability for score in scored(model, requests, seconds)]
    assert found == pytest.approx([expected(model, r)[range(5), list(r.continuation)].sum()
                                   for r in requests], abs=5 * ROUNDING)  # fmt: skip


def test_an_empty_continuation_is_certain_and_costs_nothing(model: Model) -> None:
    empty, some = scored(model, [asking(ids(5), []), asking(ids(5), ids(2))])
    assert (empty.log_probability, empty.ids, empty.tokens) == (0.0, (), 0)
    assert some.tokens == 6
    assert scored(model, []) == []


def test_what_fills_the_context_to_its_end_is_scored_and_more_is_refused(model: Model) -> None:
    (score,) = scored(model, [asking(ids(1000), ids(24))])
    assert len(score.ids) == 24
    found: list[Score] = []
    job = job_for(beside(model), [asking(ids(1), ids(1)), asking(ids(1000), ids(25))], found.extend)
    with pytest.raises(ContextOverflow, match=r"1,025 tokens.*number 2 of 2.*holds 1,024"):
        run_job(job)
    assert found == []


def test_what_is_no_token_and_what_follows_nothing_is_refused(model: Model) -> None:
    with pytest.raises(EngineError, match="32002 is not a token of this model, which has 32,002"):
        scored(model, [asking([1], [32002])])
    with pytest.raises(EngineError, match="prompt of number 1 of 1 is empty"):
        scored(model, [asking([], [5])])


def test_a_job_that_is_cancelled_says_no_more(model: Model) -> None:
    found: list[Score] = []
    engine, requests = beside(model), [asking(ids(50), ids(5)) for _ in range(40)]
    job = job_for(engine, requests, found.extend, finish=lambda: pytest.fail("finished"))
    engine.cancels.open(job.id)
    job.step(None)
    job.step(None)
    before = len(found)
    engine.cancels.cancel(job.id)
    with pytest.raises(Aborted):
        job.step(None)
    job.close()
    assert len(found) == before < 40


def test_what_is_interrupted_is_done_again_and_scored_alike(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = ids(100)
    requests = [asking([*prompt, *ids(3)], ids(5)) for _ in range(12)]
    expected = scored(model, requests)
    engine, found, calls = beside(model), list[Score](), itertools.count()
    decode = SideContext.decode

    def interrupted(context: SideContext, rows: Sequence[Row], **options: bool) -> None:
        if next(calls) % 2 == 0:
            engine.interruption()
        decode(context, rows, **options)

    monkeypatch.setattr(SideContext, "decode", interrupted)
    run_job(job_for(engine, requests, found.extend))
    assert next(calls) % 2 == 0, "every batch took two calls"
    assert sorted(found, key=lambda score: score.index) == expected


def test_each_is_scored_with_its_own_adapter(file: GGUFFile, model: Model, tmp_path: Path) -> None:
    paths = [
        write_random_adapter(tmp_path / f"{seed}.gguf", file.path, seed, rank=2 * seed, size=0.2)
        for seed in (1, 2)
    ]
    adapters = {path: Adapter(model, path) for path in paths}
    prompt, continuation = ids(30), ids(4)
    requests = [asking(prompt, continuation, 0, path) for path in (None, *paths, None, paths[0])]
    found: list[Score] = []
    run_job(job_for(beside(model, adapters), requests, found.extend))
    scores = sorted(found, key=lambda score: score.index)
    values = [score.log_probabilities for score in scores]
    assert values[0] == values[3] != values[1] == values[4] != values[2]
    assert [score.shared_tokens for score in scores].count(33) == 2
    for weights in (None, *adapters.values()):
        context = Context(model, size=256, threads=1, batch_threads=1)
        context.set_adapter(weights, 2.0)
        context.decode([Rows(0, 0, [*prompt, *continuation[:-1]], 4)])
        logits = [llama.llama_get_logits_ith(context.pointer, row) for row in range(29, 33)]
        rows = np.array([np.ctypeslib.as_array(row, (32002,)) for row in logits], np.float64)
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        wanted = rows[range(4), continuation]
        context.close()
        index = 0 if weights is None else 1 + list(adapters.values()).index(weights)
        assert values[index] == pytest.approx(wanted, abs=1e-5)


def test_where_a_cache_cannot_be_cut_each_is_evaluated_by_itself(tmp_path: Path) -> None:
    """A sliding window: Gemma 2's."""
    norms = ("post_attention_norm", "post_ffw_norm")
    extra = {f"blk.0.{name}.weight": np.ones(64, np.float32) for name in norms}
    path = write_model(
        tmp_path / "window.gguf", openchat_vocabulary(), architecture="gemma2", extra=extra,
        embedding=64, blocks=1, precision=np.float32,
    )  # fmt: skip
    model = Model(read_gguf(path))
    assert not model.cuttable
    prompt = ids(30)
    requests = [asking(prompt, ids(count)) for count in (1, 3, 1)]
    found = scored(model, requests)
    assert [(score.tokens, score.shared_tokens) for score in found] == [(30, 0), (32, 0), (30, 0)]
    for request, score in zip(requests, found, strict=True):
        rows = expected(model, request)
        wanted = rows[np.arange(len(rows)), list(request.continuation)]
        assert np.allclose(score.log_probabilities, wanted, rtol=0, atol=ROUNDING)
    model.close()


def test_a_text_is_scored_as_the_reply_that_it_would_be(file: GGUFFile, model: Model) -> None:
    template = choose_template(file, model.vocabulary)
    asked = Conversation((Message("user", "Is it so?"),))
    tokens = tokens_of(ScoreRequest(asked, "Yes, it is."), template, "GPT4 Correct")
    prompt = template.render(asked).ids
    assert tokens.prompt == prompt
    answered = Conversation((*asked.messages, Message("assistant", "Yes, it is.")))
    assert [*tokens.prompt, *tokens.continuation] == template.render(answered, continues=True).ids
    begun = Conversation((*asked.messages, Message("assistant", "Yes,")))
    rest = tokens_of(ScoreRequest(begun, " it is."), template, "GPT4 Correct")
    assert rest.prompt == template.render(begun, continues=True).ids
    assert template.vocabulary.detokenize(rest.continuation) == b" it is."
    assert tokens_of(ScoreRequest(asked, ""), template, "").continuation == []
    assert tokens_of(ScoreRequest(asked, (7, 8)), template, "").continuation == (7, 8)
