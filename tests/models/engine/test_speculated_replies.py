"""What is drafted changes nothing of a reply: on an f32 model the ids are those of plain decoding.

The engine's parts in this process, over a tiny model, on which rows are said to cost nothing,
so that all that can be drafted is.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.models.engine.decoding import reply as running
from openchat_local.models.engine.decoding import sampler as sampling_room
from openchat_local.models.engine.decoding.llamacpp import Model
from openchat_local.models.engine.decoding.speculation import RowCosts, Speculation
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationEvent,
    GenerationRequest,
    TextDelta,
)
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from support.adapters import write_f32
from support.engines import asking, run
from support.in_process import Answer, InProcess
from support.openchat_gguf import Kind, TinyVocabulary, mistral_vocabulary, write_model

SIZE = 512
REPLIES = 300
TOKENS = 700
WIDTH = 64
REPEATING = "the quick brown fox, the quick brown fox, the quick brown dog, " * 3
PROMPTS = (
    REPEATING,
    "Rivers.",
    "鱼和🐟鱼和🐟鱼和🐟",
    " ".join(str(n * 7919 % 1000) for n in range(60)),
)
KINDS = ("repeating", "short", "several bytes", "numbers")
SCHEMA = {"type": "array", "items": {"enum": ["red", "redder"]}, "minItems": 12, "maxItems": 12}


class FreeRows(RowCosts):
    """A machine on which as many rows as one likes cost what one costs."""

    comparable = True
    one = 1e-9

    def cost(self, rows: int) -> float:
        return 1.0


class Guesses(Speculation):
    """Drafts that are right, wrong, or right for a while, in turns."""

    turn = itertools.count()

    def draft(self, most: int, **batch: Any) -> list[int]:
        drafts = super().draft(most, **batch)
        number = next(self.turn)
        if number % 3 == 0 or not drafts:
            drafts = [(number * 31 + row) % 500 + 3 for row in range(min(most, number % 7))]
        elif number % 3 == 1:
            drafts[len(drafts) // 2] ^= 1
        return drafts


class Replies:
    """Replies one after the other, with and without drafts."""

    def __init__(self, model: Model, template: Template, size: int = SIZE) -> None:
        self.engine = InProcess(model, template, size=size, threads=1)
        self.engine.runner.costs = FreeRows()
        self.text = ""

    def __call__(
        self, request: GenerationRequest, *, drafts: bool = True, cancel_after: int = 0
    ) -> Finished:
        engine, shown = self.engine, 0

        def emit(event: GenerationEvent) -> None:
            nonlocal shown
            shown += isinstance(event, TextDelta)
            if shown == cancel_after and cancel_after:
                engine.cancels.cancel(None)

        answer = engine.submit(replace(request, speculate=drafts), emit)
        engine.run()
        self.text = answer.text
        return answer.finished

    @property
    def cached(self) -> list[int]:
        """The tokens of the only sequence there is."""
        (sequence,) = self.engine.runner.pool.sequences
        assert self.engine.runner.pool.used == len(sequence.tokens)
        return sequence.tokens

    def both(self, request: GenerationRequest) -> tuple[Finished, Finished]:
        """The reply with drafts, and plainly decoded; each from an empty cache."""
        found = []
        for drafts in (True, False):
            self.engine.forget_all()
            finished = self(request, drafts=drafts)
            found.append((finished, self.text, [*self.cached]))
        (drafted, text, cached), (plain, plain_text, plain_cached) = found
        assert drafted.token_ids == plain.token_ids
        assert (text, drafted.reason, drafted.note) == (plain_text, plain.reason, plain.note)
        assert drafted.usage.generated_tokens == plain.usage.generated_tokens
        assert cached == plain_cached
        assert plain.usage.drafted_tokens == plain.usage.accepted_tokens == 0
        assert drafted.usage.accepted_tokens <= drafted.usage.drafted_tokens
        return drafted, plain


def small(vocabulary: TinyVocabulary) -> TinyVocabulary:
    """Its bytes, its ASCII characters, and some of its other tokens: drawing from few is quick."""
    kept = [
        id
        for id, token in enumerate(vocabulary.tokens)
        if id < TOKENS or (len(token) == 1 and (token.isascii() or token == "\u2581"))
    ]
    fields = vocabulary.__dict__ | {
        "tokens": [vocabulary.tokens[id] for id in kept],
        "kinds": [vocabulary.kinds[id] for id in kept],
        "scores": [(vocabulary.scores or [])[id] for id in kept],
    }
    added: dict[str, Kind] = {"<|end_of_turn|>": "control", "<|pad_0|>": "control"}
    return TinyVocabulary(**fields).with_tokens(added, eos="<|end_of_turn|>")


Loaded = tuple[Model, Template]


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = small(mistral_vocabulary())
    # No token of its own ends a reply: its logit is 0, and among hundreds never the highest.
    output = np.random.default_rng(1).standard_normal((len(vocabulary.tokens), WIDTH))
    output[vocabulary.eos] = 0
    half = write_model(
        folder / "half.gguf",
        vocabulary,
        embedding=WIDTH,
        feed_forward=2 * WIDTH,
        extra={"output.weight": output.astype(np.float32)},
    )
    return write_f32(half, folder / "tiny.gguf")


@pytest.fixture(scope="module")
def tiny(tiny_path: Path) -> Iterator[Loaded]:
    file = read_gguf(tiny_path)
    model = Model(file)
    yield model, choose_template(file, model.vocabulary)
    model.close()


@pytest.fixture(scope="module")
def replies(tiny: Loaded) -> Iterator[Replies]:
    replies = Replies(*tiny)
    yield replies
    replies.engine.close()


@pytest.fixture
def guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many drafts are wrong."""
    monkeypatch.setattr(running, "Speculation", Guesses)
    monkeypatch.setattr(Guesses, "turn", itertools.count())


@pytest.mark.parametrize("prompt", PROMPTS, ids=KINDS)
def test_a_greedy_reply_has_the_ids_of_plain_decoding(replies: Replies, prompt: str) -> None:
    drafted, _ = replies.both(asking(prompt, max_tokens=70))
    assert drafted.usage.accepted_tokens > 0, "nothing was put to the test"


@pytest.mark.usefixtures("guessing")
@pytest.mark.parametrize("prompt", PROMPTS, ids=KINDS)
def test_wrong_drafts_change_nothing(replies: Replies, prompt: str) -> None:
    drafted, _ = replies.both(asking(prompt, max_tokens=70, repeat_penalty=1.1))
    assert drafted.usage.drafted_tokens > 2 * drafted.usage.accepted_tokens


@pytest.mark.usefixtures("guessing")
@pytest.mark.parametrize("stop", [0, 1, 5, 13])
def test_a_stop_string_ends_the_reply_where_it_would(replies: Replies, stop: int) -> None:
    request = asking(PROMPTS[2], max_tokens=40)
    replies(request, drafts=False)
    text = replies.text
    at = len(text) * (stop + 1) // 16
    drafted, _ = replies.both(asking(PROMPTS[2], max_tokens=40, stop=(text[at : at + 9],)))
    assert drafted.reason == "stop"


@pytest.mark.usefixtures("guessing")
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20])
def test_no_more_tokens_come_than_asked_for(replies: Replies, limit: int) -> None:
    drafted, _ = replies.both(asking(REPEATING, max_tokens=limit))
    assert drafted.usage.generated_tokens == limit
    assert drafted.reason == "length"


def test_the_end_of_the_context_is_where_it_was(tiny: Loaded) -> None:
    replies = Replies(*tiny, size=96)
    try:
        drafted, _ = replies.both(asking("Rivers.", max_tokens=None))
        assert drafted.usage.prompt_tokens + drafted.usage.generated_tokens == 97
        assert drafted.usage.accepted_tokens > 0
        assert drafted.note is not None
        assert "96 tokens is full" in drafted.note
    finally:
        replies.engine.close()


@pytest.mark.usefixtures("guessing")
def test_what_a_schema_forces_and_what_is_drafted_go_together(replies: Replies) -> None:
    drafted, _ = replies.both(asking("Rivers.", max_tokens=150, json_schema=SCHEMA))
    assert drafted.complete
    assert drafted.usage.accepted_tokens > 0


@pytest.mark.usefixtures("guessing")
def test_a_reply_that_is_cancelled_leaves_a_cache_that_can_be_trusted(replies: Replies) -> None:
    request = replace(asking(REPEATING, max_tokens=60), update_interval=0.0)
    replies.engine.forget_all()
    whole = replies(request, drafts=False)
    for updates in (1, 4, 9):
        replies.engine.forget_all()
        cut = replies(request, cancel_after=updates)
        assert cut.reason == "cancelled"
        assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
        begun = cut.usage.prompt_tokens + len(cut.token_ids)
        assert begun - 1 <= len(replies.cached) <= begun
        again = replies(request, drafts=False)
        assert again.token_ids == whole.token_ids


def test_a_seed_of_its_own_makes_a_reply_do_without(replies: Replies) -> None:
    finished = replies(asking(REPEATING, max_tokens=40, seed=1))
    assert finished.usage.drafted_tokens == 0


def test_what_the_reply_was_before_it_was_edited_is_drafted(replies: Replies) -> None:
    request = asking("Rivers.", max_tokens=40, repeat_penalty=1.2)
    replies.engine.forget_all()
    replies(request, drafts=False)
    known = replace(request, likely=replies.text)
    replies.engine.forget_all()
    assert replies(known).usage.accepted_tokens > replies(request).usage.accepted_tokens


def test_replies_beside_each_other_draft_and_stay_what_they_are_alone(replies: Replies) -> None:
    requests = [asking(prompt, max_tokens=60) for prompt in PROMPTS]
    alone = [replies.both(request)[1].token_ids for request in requests]
    replies.engine.forget_all()
    answers = replies.engine.replies([replace(one, speculate=True) for one in requests])
    assert [answer.finished.token_ids for answer in answers] == alone
    assert sum(answer.finished.usage.accepted_tokens for answer in answers) > 0


@settings(max_examples=8, deadline=None)
@given(
    wanted=st.lists(
        st.tuples(st.sampled_from(PROMPTS), st.integers(1, 40), st.none() | st.integers(1, 8)),
        min_size=2,
        max_size=7,
    )
)
def test_many_replies_some_of_them_cancelled_keep_the_ids_of_plain_decoding(
    tiny: Loaded, wanted: list[tuple[str, int, int | None]]
) -> None:
    """Each of a prompt, a limit, and after how many updates it is cancelled."""
    replies = Replies(*tiny, size=1024)
    engine = replies.engine

    def begun(prompt: str, limit: int, cancel_after: int | None) -> Answer:
        shown = itertools.count(1)

        def emit(event: GenerationEvent) -> None:
            if isinstance(event, TextDelta) and next(shown) == cancel_after:
                engine.cancels.cancel(answer.id)

        request = asking(prompt, max_tokens=limit)
        answer = engine.submit(replace(request, speculate=True, update_interval=0.0), emit)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Speculation", Guesses)
        try:
            answers = [begun(*one) for one in wanted]
            engine.run()
            for answer, (prompt, limit, cancel_after) in zip(answers, wanted, strict=True):
                ids = answer.finished.token_ids
                alone = replies(asking(prompt, max_tokens=limit), drafts=False).token_ids
                assert ids == alone[: len(ids)]
                assert len(ids) == len(alone) or cancel_after is not None
        finally:
            engine.close()


def test_drafts_take_no_cells_that_others_need(tiny: Loaded) -> None:
    replies = Replies(*tiny, size=160)
    try:
        request = asking("Rivers.", max_tokens=60)
        alone = replies.both(request)[1].token_ids
        answers = replies.engine.replies([replace(request, speculate=True)] * 2)
        assert [answer.finished.token_ids for answer in answers] == [alone, alone]
        assert replies.engine.runner.pool.free >= 0
    finally:
        replies.engine.close()


def test_an_engine_without_speculation_drafts_nothing(tiny_path: Path) -> None:
    request = replace(asking("Rivers.", max_tokens=120), speculate=True)
    drafted = []
    for speculation in (True, False):
        options = EngineOptions(tiny_path, context=512, threads=1, speculation=speculation)
        with closing(LocalEngine(options)) as engine:
            _, finished = run(engine, request)
            drafted.append(finished.usage.drafted_tokens)
    assert drafted[0] > 0
    assert drafted[1] == 0


@settings(max_examples=12, deadline=None)
@given(
    prompt=st.lists(
        st.sampled_from(["fox ", "dog ", "鱼", "🐟", "x=1\n", "12 "]), min_size=1, max_size=40
    ),
    seed=st.integers(0, 2**32 - 1),
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    penalty=st.sampled_from([1.0, 1.3]),
    limit=st.integers(1, 30),
)
def test_with_the_same_draws_come_the_same_tokens(
    tiny: Loaded, prompt: list[str], seed: int, temperature: float, penalty: float, limit: int
) -> None:
    replies = Replies(*tiny)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Speculation", Guesses)
        patch.setattr(sampling_room, "random_seed", lambda: seed)
        try:
            replies.both(
                asking(
                    "".join(prompt), temperature=temperature, top_k=5, repeat_penalty=penalty,
                    max_tokens=limit,
                )
            )  # fmt: skip
        finally:
            replies.engine.close()


def test_what_is_drawn_is_distributed_as_in_plain_decoding(
    replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    likeliest = asking("Rivers.", max_tokens=3, repeat_penalty=1.2)
    script = replies(likeliest, drafts=False).token_ids

    class Script(Speculation):
        """Drafts the likeliest reply, so that a good part of it is drawn, and a part is not."""

        def draft(self, most: int, **batch: Any) -> list[int]:
            return list(script[self.followed : self.followed + most])

        followed = 0

        def follow(self, tokens: Sequence[int]) -> None:
            super().follow(tokens)
            self.followed += len(tokens)

    monkeypatch.setattr(running, "Speculation", Script)
    seeds = itertools.count(1)
    monkeypatch.setattr(sampling_room, "random_seed", lambda: next(seeds))
    sampled = asking(
        "Rivers.", max_tokens=3, temperature=1.3, top_k=3, top_p=1.0, min_p=0.0, repeat_penalty=1.2
    )
    counts: list[Counter[tuple[int, ...]]] = []
    accepted = drafted = 0
    for drafts in (True, False):
        found = [replies(sampled, drafts=drafts) for _ in range(REPLIES)]
        counts.append(Counter(finished.token_ids for finished in found))
        accepted += sum(finished.usage.accepted_tokens for finished in found)
        drafted += sum(finished.usage.drafted_tokens for finished in found)
    assert 0.1 * drafted < accepted < 0.9 * drafted
    statistic, freedom = chi_square(*counts)
    # The 99th percentile (Wilson and Hilferty 1931); the seeds are fixed.
    critical = freedom * (1 - 2 / (9 * freedom) + 2.326 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert freedom >= 10
    assert statistic < critical


def chi_square(one: Counter[tuple[int, ...]], other: Counter[tuple[int, ...]]) -> tuple[float, int]:
    """The statistic of two samples of the same size, and its degrees of freedom; what is rare
    in both counts as one kind."""
    kinds = one | other
    cells = [(one[kind], other[kind]) for kind in kinds if one[kind] + other[kind] >= 10]
    rare = [(one[kind], other[kind]) for kind in kinds if one[kind] + other[kind] < 10]
    if rare:
        cells.append((sum(a for a, _ in rare), sum(b for _, b in rare)))
    return sum((a - b) ** 2 / (a + b) for a, b in cells), len(cells) - 1
