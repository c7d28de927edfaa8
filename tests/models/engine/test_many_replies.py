"""Many replies at once, each as if it were alone: a tiny model in float32, in this process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openchat_local.models.engine.decoding.admission import WORTH_WAITING
from openchat_local.models.engine.decoding.llamacpp import Adapter, Model
from openchat_local.models.engine.decoding.reply import CHUNK
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    Finished,
    GenerationEvent,
    GenerationRequest,
    PrefillProgress,
    PromptFitted,
    TextDelta,
)
from openchat_local.models.errors import ContextOverflow, EngineError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from support.adapters import write_f32, write_random_adapter
from support.engines import asking
from support.in_process import Answer, InProcess
from support.openchat_gguf import openchat_vocabulary, write_model

SMALL = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 2, "feed_forward": 64}
LONG = " ".join(str(number * 7919 % 1000) for number in range(150))
PROMPTS = ("Hello.", "Name three animals.", "Name three colours.", LONG[:200], LONG)
LENGTH = 20


@dataclass
class Tiny:
    """A model in float32, and its adapters: of rank 2, of rank 5, and none."""

    model: Model
    template: Template
    adapters: dict[Path, Adapter]

    @property
    def choices(self) -> list[AdapterChoice]:
        return [AdapterChoice(), *map(AdapterChoice, self.adapters)]

    def engine(self, **how: object) -> InProcess:
        how = {"threads": 1} | how  # two spin, and take ten times as long where a core is busy
        return InProcess(self.model, self.template, adapters=self.adapters, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    folder = tmp_path_factory.mktemp("tiny")
    half = write_model(folder / "f16.gguf", openchat_vocabulary(), **SMALL)
    path = write_f32(half, folder / "tiny.gguf")
    file = read_gguf(path)
    model = Model(file)
    adapters = {
        write_random_adapter(folder / f"rank-{rank}.gguf", path, rank=rank, size=0.3, seed=rank)
        for rank in (2, 5)
    }
    loaded = {adapter: Adapter(model, adapter) for adapter in sorted(adapters)}
    yield Tiny(model, choose_template(file, model.vocabulary), loaded)
    for adapter in loaded.values():
        adapter.close()
    model.close()


@pytest.fixture(scope="module")
def shared(tiny: Tiny) -> Iterator[InProcess]:
    engine = tiny.engine(size=4096, threads=1)
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: InProcess) -> InProcess:
    """An engine with an empty cache."""
    shared.forget_all()
    return shared


def wanting(
    prompt: str, choice: AdapterChoice | None = None, **sampling: object
) -> GenerationRequest:
    asked = asking(prompt, **({"max_tokens": LENGTH} | sampling))
    return replace(asked, adapter=choice, update_interval=0.0)


@pytest.fixture(scope="module")
def alone(tiny: Tiny) -> dict[tuple[str, AdapterChoice], tuple[int, ...]]:
    """What each prompt is answered with under each adapter, by an engine of its own."""
    replies = {}
    engine = tiny.engine(sequences=1, second_runner=False)
    for prompt, choice in itertools.product(PROMPTS, tiny.choices):
        engine.forget_all()
        replies[prompt, choice] = engine.reply(wanting(prompt, choice)).token_ids
    engine.close()
    assert len(set(replies.values())) == len(replies)
    return replies


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PROMPTS),
            st.integers(0, 2),
            st.none() | st.integers(0, 30),  # cancelled before that step
            st.integers(0, 10),  # asked for before that step
        ),
        min_size=8,
        max_size=8,
    )
)
def test_eight_at_once_are_each_as_alone(
    tiny: Tiny,
    shared: InProcess,
    alone: dict[tuple[str, AdapterChoice], tuple[int, ...]],
    asked: list[tuple[str, int, int | None, int]],
) -> None:
    """Under two adapters and the bare model, with cancels, beginning at different times."""
    answers: dict[int, Answer] = {}
    for step in range(31):
        for number, (prompt, choice, cancelled, begun) in enumerate(asked):
            if begun == step:
                answers[number] = shared.submit(wanting(prompt, tiny.choices[choice]))
            if cancelled == step and number in answers:
                shared.cancels.cancel(answers[number].id)
        shared.service.step()
    shared.run()
    for number, answer in answers.items():
        prompt, choice, cancelled, _ = asked[number]
        expected = alone[prompt, tiny.choices[choice]]
        finished = answer.finished
        if finished.reason == "cancelled":
            assert cancelled is not None
            assert finished.token_ids == expected[: len(finished.token_ids)]
        else:
            assert finished.token_ids == expected
        path = tiny.choices[choice].path
        assert finished.adapter == (path and path.stem)
    pool = shared.runner.pool
    assert not pool.any_live
    assert pool.free == pool.size - pool.used


def test_chunks_of_any_size_give_the_same_reply(tiny: Tiny, engine: InProcess) -> None:
    whole = engine.reply(wanting(LONG)).token_ids
    for chunk in (1, 7, 500):
        engine.forget_all()
        engine.runner.chunk = chunk
        try:
            assert engine.reply(wanting(LONG)).token_ids == whole
        finally:
            engine.runner.chunk = CHUNK


# Adapters and prefixes


def test_an_adapter_that_comes_back_evaluates_nothing_again(tiny: Tiny, engine: InProcess) -> None:
    for choice in tiny.choices:
        assert engine.reply(wanting(LONG, choice)).usage.reused_tokens == 0
    for choice in tiny.choices:
        assert engine.reply(wanting(LONG, choice)).usage.evaluated_tokens == 1


def test_the_scale_belongs_to_the_adapter(tiny: Tiny, engine: InProcess) -> None:
    path = tiny.choices[1].path
    whole = engine.reply(wanting(LONG, AdapterChoice(path)))
    none = engine.reply(wanting(LONG, AdapterChoice(path, 0.0)))
    assert none.usage.reused_tokens == 0
    assert none.token_ids != whole.token_ids
    assert none.token_ids == engine.reply(wanting(LONG, AdapterChoice())).token_ids


def test_what_many_begin_with_is_evaluated_once(engine: InProcess) -> None:
    requests = [asking(f"Question {number}?", system=LONG, max_tokens=2) for number in range(12)]
    usages = [answer.finished.usage for answer in engine.replies(requests)]
    common = min(usage.reused_tokens for usage in usages[1:])
    assert common > 0.9 * usages[0].prompt_tokens
    assert sum(usage.evaluated_tokens for usage in usages) < usages[0].prompt_tokens + 12 * 30
    # The cells are shared, too.
    assert engine.runner.pool.used < 2 * usages[0].prompt_tokens


def test_a_second_reply_to_the_same_prompt_reads_nothing(engine: InProcess) -> None:
    pair = [wanting(LONG, temperature=1.0), wanting(LONG, temperature=1.0)]
    one, other = (answer.finished for answer in engine.replies(pair))
    assert one.usage.reused_tokens == 0
    assert other.usage.evaluated_tokens <= WORTH_WAITING


# Seeds


@pytest.mark.parametrize("second_runner", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_seeded_reply_is_the_same_alone_and_beside_seven_others(
    tiny: Tiny, second_runner: bool, first: bool
) -> None:
    """Whether there is memory for a second context or not, and whoever came first."""
    seeded = wanting(LONG, temperature=1.0, seed=7)
    fresh = tiny.engine()
    expected = fresh.replies([seeded])[0]
    fresh.close()
    engine = tiny.engine(size=4096, second_runner=second_runner)
    others = [
        wanting(f"{number} {LONG}", tiny.choices[number % 3], temperature=1.0)
        for number in range(7)
    ]
    requests = [seeded, *others] if first else [*others, seeded]
    answers = [engine.submit(request) for request in requests]
    engine.run()
    beside = answers[0 if first else -1]
    assert beside.finished.token_ids == expected.finished.token_ids
    assert progress(beside) == progress(expected)  # in the same chunks
    assert all(answer.over for answer in answers)
    assert engine.reply(seeded).token_ids == expected.finished.token_ids
    assert engine.opened == (1 if second_runner else 0)
    engine.close()


def progress(answer: Answer) -> list[GenerationEvent]:
    return [event for event in answer.events if isinstance(event, PrefillProgress)]


def test_a_seeded_reply_beside_others_waits_for_no_end_of_theirs(tiny: Tiny) -> None:
    engine = tiny.engine(size=2048)
    other = engine.submit(wanting("Hello.", max_tokens=1500))
    engine.service.step()
    seeded = engine.submit(wanting("Hello.", seed=1))
    while not seeded.over:
        engine.service.step()
    assert not other.over
    engine.cancels.cancel(other.id)
    engine.run()
    assert len(engine.service.scheduler.runners) == 1  # what it took is given back
    engine.close()


# Little room


def test_replies_that_fill_the_cache_together_take_turns_and_lose_nothing(tiny: Tiny) -> None:
    """Three that want 200 cells each, in 400."""
    engine = tiny.engine(size=400)
    wide = tiny.engine(size=2048)
    requests = [wanting(prompt, max_tokens=160) for prompt in PROMPTS[:3]]
    expected = [wide.reply(request) for request in requests]
    answers = engine.replies(requests)
    for answer, alone in zip(answers, expected, strict=True):
        assert answer.finished.token_ids == alone.token_ids
        assert answer.finished.reason == alone.reason
        assert answer.finished.usage.generated_tokens == alone.usage.generated_tokens
        assert answer.finished.note is None
        usage = answer.finished.usage
        assert usage.prompt_tokens == usage.reused_tokens + usage.evaluated_tokens
    engine.close()
    wide.close()


def test_one_that_does_not_fit_now_waits_and_one_that_never_will_is_told_both_numbers(
    tiny: Tiny,
) -> None:
    engine = tiny.engine(size=768)
    first = engine.submit(wanting(LONG, max_tokens=3))
    second = engine.submit(wanting("x" + LONG, max_tokens=3))
    engine.service.step()
    assert [type(event) for event in second.events] == [PromptFitted]
    engine.run()
    assert first.finished.reason == second.finished.reason == "length"
    with pytest.raises(
        ContextOverflow, match=r"\d,?\d+ tokens long with this prompt and the context holds 768"
    ):
        engine.submit(wanting(LONG + LONG))
    engine.close()


def test_a_full_context_ends_the_reply_that_has_it_all_and_says_so(tiny: Tiny) -> None:
    engine = tiny.engine(size=128)
    answers = engine.replies([wanting("Hello.", max_tokens=None) for _ in range(3)])
    for answer in answers:
        usage = answer.finished.usage
        assert answer.finished.reason == "length"
        assert "128" in str(answer.finished.note)
        assert usage.prompt_tokens + usage.generated_tokens == 129
    engine.close()


@pytest.mark.parametrize("size", [1, 2, 20])
def test_a_context_of_a_few_tokens_refuses_what_it_cannot_hold(tiny: Tiny, size: int) -> None:
    engine = tiny.engine(size=size)
    with pytest.raises(ContextOverflow, match=f"holds {size}:"):
        engine.submit(wanting(LONG))
    engine.close()


# Each its own


def test_a_cancel_in_the_prefill_leaves_the_others_alone(tiny: Tiny, engine: InProcess) -> None:
    expected = engine.reply(wanting("Hello.", max_tokens=200)).token_ids
    engine.forget_all()
    writing = engine.submit(wanting("Hello.", max_tokens=200))
    while not any(isinstance(event, TextDelta) for event in writing.events):
        engine.service.step()

    reading = engine.submit(wanting(LONG))
    while not any(isinstance(event, PrefillProgress) for event in reading.events):
        engine.service.step()
    engine.cancels.cancel(reading.id)
    engine.run()
    finished = reading.finished
    assert finished.reason == "cancelled"
    assert 0 < finished.usage.evaluated_tokens < finished.usage.prompt_tokens
    assert writing.finished.token_ids == expected


def test_stop_strings_and_intervals_are_each_replys_own(tiny: Tiny, engine: InProcess) -> None:
    """A stop string that comes in pieces, between the pieces of another reply."""
    whole = engine.replies([wanting("Hello."), wanting("Name three animals.")])
    texts = [answer.text for answer in whole]
    stops = [text[len(text) // 2 :][:9] for text in texts]
    requests = [
        wanting("Hello.", stop=(stops[0],)),
        wanting("Name three animals.", stop=(stops[1],)),
        replace(wanting("Hello."), update_interval=60.0),
    ]
    answers = engine.replies(requests)
    for answer, text, stop in zip(answers, texts, stops, strict=False):
        assert answer.text == text.partition(stop)[0]
        assert answer.finished.reason == "stop"
    assert answers[2].text == texts[0]
    deltas = [event for event in answers[2].events if isinstance(event, TextDelta)]
    assert len(deltas) <= 2


def test_a_schema_binds_its_own_reply_only(tiny: Tiny, engine: InProcess) -> None:
    free = engine.reply(wanting("Hello.")).token_ids
    bound, other = engine.replies(
        [wanting("Go.", json_schema={"const": "yes indeed"}), wanting("Hello.")]
    )
    assert bound.text == '"yes indeed"'
    assert other.finished.token_ids == free


def test_a_request_that_is_refused_leaves_the_others_alone(tiny: Tiny, engine: InProcess) -> None:
    expected = engine.reply(wanting("Hello.")).token_ids
    going = engine.submit(wanting("Hello."))
    engine.service.step()
    with pytest.raises(EngineError, match="schema"):
        engine.submit(wanting("Go.", json_schema=False))
    engine.run()
    assert going.finished.token_ids == expected


def test_order_is_fair(tiny: Tiny, engine: InProcess) -> None:
    """More than can be in progress at once: who came first is never behind who came last."""
    order: list[int] = []

    def told(number: int) -> GenerationRequest:
        return wanting(f"{number}. Hello.", max_tokens=4)

    answers = [engine.submit(told(number)) for number in range(20)]

    def note_who_ended() -> None:
        order.extend(n for n, one in enumerate(answers) if one.over and n not in order)

    engine.run(note_who_ended)
    assert order == sorted(order)


def test_a_short_prompt_is_not_kept_by_a_long_one(tiny: Tiny, engine: InProcess) -> None:
    long = engine.submit(wanting(LONG, max_tokens=2))
    short = engine.submit(wanting("Hello.", max_tokens=2))
    over: list[Answer] = []
    engine.run(lambda: over.extend(one for one in (long, short) if one.over and one not in over))
    assert over[0] is short


def test_a_short_prompt_is_read_before_the_rest_of_a_long_one(
    tiny: Tiny, engine: InProcess
) -> None:
    """However many came before: a question is not kept by the books that others send."""
    long = [engine.submit(wanting(f"{n} {LONG}", max_tokens=1)) for n in range(3)]
    while not all(heard(one, PrefillProgress) for one in long):
        engine.service.step()
    engine.service.scheduler._rows = 64.0  # whatever a disturbed machine has taught
    short = engine.submit(wanting("Hello.", max_tokens=1))
    before = sum(heard(one, PrefillProgress) for one in long)
    while not short.over:
        engine.service.step()
    assert sum(heard(one, PrefillProgress) for one in long) - before <= 2
    engine.run()
    assert all(one.finished.usage.generated_tokens == 1 for one in long)


def heard(answer: Answer, kind: type[GenerationEvent]) -> int:
    return sum(isinstance(event, kind) for event in answer.events)


def test_every_reply_goes_on_while_a_long_prompt_is_read(tiny: Tiny, engine: InProcess) -> None:
    writing = [engine.submit(wanting(text, max_tokens=300)) for text in ("Hello.", "Go.")]
    while not all(heard(answer, TextDelta) for answer in writing):
        engine.service.step()
    reading = engine.submit(wanting(LONG, max_tokens=1))
    before = [len(answer.events) for answer in writing]
    while not heard(reading, Finished):
        engine.service.step()
    chunks = heard(reading, PrefillProgress)
    for answer, events in zip(writing, before, strict=True):
        assert len(answer.events) - events >= chunks
    engine.cancels.cancel(None)
    engine.run()
