"""The pool's books: which cells are whose, counted against what the tokens say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openchat_local.models.engine.decoding.llamacpp import Context, Model, Rows
from openchat_local.models.engine.decoding.prefix_tree import common_prefix
from openchat_local.models.engine.decoding.sequences import (
    CachedSequence,
    SequencePool,
)
from openchat_local.models.gguf import read_gguf
from support.openchat_gguf import openchat_vocabulary, write_model

SMALL = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 1}
Prompts = st.lists(st.integers(3, 5), min_size=1, max_size=60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("pool") / "tiny.gguf"
    model = Model(read_gguf(write_model(path, openchat_vocabulary(), **SMALL)))
    yield model
    model.close()


@pytest.fixture(scope="module")
def context(model: Model) -> Iterator[Context]:
    context = Context(model, size=256, threads=1, batch_threads=1, sequences=4)
    yield context
    context.close()


@pytest.fixture
def pool(context: Context) -> Iterator[SequencePool]:
    pool = SequencePool(context)
    yield pool
    pool.clear()


def read(
    pool: SequencePool, ids: list[int], adapter: str = "", chat_key: str | None = None
) -> CachedSequence:
    """A sequence that holds all of `ids`, the last of which were evaluated by themselves."""
    sequence = pool.take(ids, adapter, chat_key)
    assert sequence is not None
    for part in (ids[len(sequence.tokens) : -1], ids[-1:]):
        if part:
            pool.context.decode([Rows(sequence.id, len(sequence.tokens), part)])
            pool.decoded(sequence, part)
    return sequence


def check(pool: SequencePool) -> None:
    """What is counted is what is there."""
    of = {one.id: pool.cells.of.get(one.id, []) for one in pool.sequences}
    assert pool.used == pool.cells.held(of)
    for sequence in pool.sequences:
        assert sum(segment.length for segment in of[sequence.id]) == len(sequence.tokens)
    for segment in {segment for segments in pool.cells.of.values() for segment in segments}:
        assert segment.holders == sum(segment in segments for segments in of.values()) > 0
    assert pool.free >= 0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(Prompts, st.sampled_from(["", "a"]), st.sampled_from([None, "x", "y"]))
        | st.tuples(st.integers(0, 3), st.integers(0, 60)),
        max_size=25,
    )
)
def test_cells_are_counted_once_whoever_shares_them(
    pool: SequencePool, acts: list[tuple[object, ...]]
) -> None:
    """Sequences come, grow, are cut, become idle, and llama.cpp never runs out of cells before
    the books say so: it would raise CacheFull."""
    pool.clear()
    live: list[CachedSequence] = []
    for act in acts:
        if len(act) == 3:
            ids, adapter, chat_key = act
            sequence = pool.take(ids, adapter, chat_key)  # type: ignore[arg-type]
            if sequence is not None:
                rest = ids[len(sequence.tokens) :]  # type: ignore[index]
                pool.context.decode([Rows(sequence.id, len(sequence.tokens), rest)])
                pool.decoded(sequence, rest)
                assert sequence.tokens == ids
                live.append(sequence)
        elif live:
            number, length = act
            sequence = live.pop(int(number) % len(live))  # type: ignore[call-overload]
            pool.cut(sequence, int(length))  # type: ignore[call-overload]
            pool.idle(sequence)
        check(pool)
    for sequence in live:
        pool.idle(sequence)


def test_a_prefix_is_copied_from_who_still_needs_it_and_counts_once(pool: SequencePool) -> None:
    system = list(range(10, 60))
    first = read(pool, [*system, 1, 2])
    second = pool.take([*system, 3, 4, 5], "")
    assert second is not None
    assert second is not first
    assert second.tokens == system
    assert pool.used == len(system) + 2
    check(pool)


def test_another_adapters_cells_are_not_taken(pool: SequencePool) -> None:
    ids = list(range(10, 60))
    pool.idle(read(pool, ids, "one"))
    other = pool.take(ids, "other")
    assert other is not None
    assert other.tokens == []
    pool.idle(other)
    back = pool.take(ids, "one")
    assert back is not None
    assert len(back.tokens) == len(ids) - 1


def test_the_least_recently_used_goes_first_and_none_that_is_live(pool: SequencePool) -> None:
    pool.idle(read(pool, list(range(100, 160))))
    live = read(pool, list(range(200, 260)))
    pool.idle(read(pool, list(range(300, 360))))
    assert pool.take(list(range(400, 500)), "") is not None
    kept = [sequence.tokens[:1] for sequence in pool.sequences if sequence.tokens]
    assert kept == [live.tokens[:1], [300]]
    assert pool.take(list(range(500, 700)), "") is None  # even without the idle one
    assert [300] in [sequence.tokens[:1] for sequence in pool.sequences]


def test_what_was_promised_is_not_free(pool: SequencePool) -> None:
    first = pool.take(list(range(10, 210)), "")
    assert first is not None
    assert pool.take(list(range(300, 400)), "") is None
    pool.idle(first)
    assert pool.take(list(range(300, 400)), "") is not None


def test_what_is_cut_from_one_and_held_by_another_is_not_free(pool: SequencePool) -> None:
    shared = list(range(10, 110))
    idle = read(pool, [*shared, 1])
    idle.chat_key = "other"
    pool.idle(idle)
    live = pool.take([*shared, 2, 3, 4], "", "chat")
    assert live is not None
    assert live is not idle
    assert live.tokens == shared
    # Cutting the idle one to its first ten would give nothing back.
    assert pool.take([*shared[:10], *range(500, 700)], "") is None
    assert pool.free >= 0


def test_an_exact_one_is_alone_and_uses_only_what_is_exact(pool: SequencePool) -> None:
    ids = list(range(10, 90))
    pool.idle(read(pool, ids))
    again = pool.take([*ids, 5], "", exact=True)
    assert again is not None
    assert again.tokens == ids
    pool.idle(again)
    other = pool.take([*ids[:40], 5], "", exact=True)
    assert other is not None
    assert other.tokens == []  # in the middle of a chunk
    pool.idle(other)
    pool.idle(read(pool, list(range(300, 310)), chat_key="other"))
    pool.idle(read(pool, ids))  # its cells come after those of the other
    again = pool.take(ids, "", exact=True)
    assert again is not None
    assert again.tokens == []
    assert pool.sequences == [again]


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_a_common_prefix_is_the_longest(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert a[length : length + 1] != b[length : length + 1] or length == min(len(a), len(b))


def test_who_is_alone_has_no_cells_beside_that_nobody_comes_back_to(pool: SequencePool) -> None:
    pool.idle(read(pool, list(range(100, 120))))  # no chat's
    pool.idle(read(pool, list(range(200, 220)), chat_key="left"))
    pool.sequences[-1].left = True
    pool.idle(read(pool, list(range(300, 320)), chat_key="open"))
    pool.idle(read(pool, list(range(400, 420)), adapter="other"))
    assert [one.tokens[0] for one in pool.sequences] == [300, 400]
    alone = read(pool, [*range(300, 310), *range(500, 510)], chat_key="next")
    assert [one.tokens[0] for one in pool.sequences] == [300, 400, 300]
    beside = read(pool, list(range(600, 620)))
    pool.idle(beside)
    pool.idle(read(pool, list(range(700, 720))))
    assert beside in pool.sequences, "somebody is live, and others may come back"
    pool.idle(alone)
    check(pool)
