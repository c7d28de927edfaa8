"""A reply that can be had again is had again to the last bit, whatever the machine did meanwhile.

The engine's parts in this process, over a tiny model: what is compared are the logits.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openchat_local.models.engine.decoding.llamacpp import Model
from openchat_local.models.engine.decoding.output import Emit
from openchat_local.models.engine.decoding.reply import CHUNK
from openchat_local.models.engine.protocol import (
    Finished,
    GenerationEvent,
    GenerationRequest,
    KVType,
    PrefillProgress,
)
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from support import engines
from support.engines import said
from support.in_process import InProcess
from support.openchat_gguf import openchat_vocabulary, write_model

# Past 512 cells of the cache a token's logits depend on the number of threads.
LONG = " ".join(str(number * 7919 % 1000) for number in range(150))


Loaded = tuple[Model, Template]


def asking(*turns: str, **sampling: Any) -> GenerationRequest:
    """A request with a seed of its own: one that repeats to the last bit."""
    return engines.asking(*turns, **{"seed": 1} | sampling)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    file = read_gguf(write_model(path, openchat_vocabulary(), embedding=128))
    model = Model(file)
    yield model, choose_template(file, model.vocabulary)
    model.close()


class Replies(InProcess):
    """Replies from one context, each with the logits that its last token was drawn from."""

    def __init__(self, tiny: Loaded, states: Path | None = None, kv_type: KVType = "f16") -> None:
        super().__init__(*tiny, states=states, kv_type=kv_type)

    def __call__(
        self, request: GenerationRequest, emit: Emit | None = None
    ) -> tuple[Finished, np.ndarray]:
        return self.reply(request, emit), self.logits()

    def prefill(self, request: GenerationRequest) -> list[int]:
        """Where the chunks of the prompt ended."""
        events: list[GenerationEvent] = []
        self.reply(request, events.append)
        return [event.evaluated for event in events if isinstance(event, PrefillProgress)]


@pytest.fixture
def replies(tiny: Loaded, request: pytest.FixtureRequest) -> Iterator[Replies]:
    replies = Replies(tiny, kv_type=getattr(request, "param", "f16"))
    yield replies
    replies.close()


def same(one: tuple[Finished, np.ndarray], other: tuple[Finished, np.ndarray]) -> bool:
    return one[0].token_ids == other[0].token_ids and np.array_equal(one[1], other[1])


def test_chunks_follow_the_position_and_not_the_clock(
    replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_leisure = replies.prefill(asking(LONG, max_tokens=1))
    replies.forget_all()
    clock = itertools.count(0.0, 10.0)  # as if every chunk took many seconds
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert replies.prefill(asking(LONG, max_tokens=1)) == at_leisure
    assert at_leisure[:-1] == list(range(CHUNK, at_leisure[-2] + 1, CHUNK))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 7}])
@pytest.mark.parametrize("replies", ["f16", "q8_0"], indirect=True)
def test_a_busy_machine_changes_no_bit(replies: Replies, sampling: dict[str, float]) -> None:
    request = asking(LONG, max_tokens=20, **sampling)
    alone = replies(request)
    replies.forget_all()
    threads = itertools.cycle([1, 3, 2])

    def others_come_and_go(event: GenerationEvent) -> None:
        now = next(threads)
        replies.context.use_threads(now)

    assert same(replies(replace(request, update_interval=0.0), others_come_and_go), alone)


def test_what_is_asked_again_is_answered_again(replies: Replies) -> None:
    request = asking(LONG, max_tokens=10)
    first = replies(request)
    again = replies(request)
    assert again[0].usage.evaluated_tokens == 1
    assert same(again, first)
    reply = replies.service.template.content_decoder()
    text = "".join(map(reply.feed, first[0].token_ids)) + reply.finish()
    later = asking(LONG, said(text, first[0]), "And then?", max_tokens=10)
    second = replies(later)
    assert second[0].usage.evaluated_tokens < CHUNK, "the reply was read again"
    assert same(replies(later), second)


@pytest.mark.parametrize("shared", [1, 37, 64, 100])
def test_a_prefix_in_the_cache_gives_the_same_bits_as_a_fresh_one(
    replies: Replies, tiny: Loaded, shared: int
) -> None:
    words = LONG.split()
    asked = asking(" ".join([*words[:shared], *reversed(words)]), max_tokens=5)
    replies(asking(LONG, max_tokens=40))
    warm = replies(asked)
    fresh = Replies(tiny)
    cold = fresh(asked)
    fresh.close()
    assert warm[0].usage.reused_tokens % CHUNK == 0
    assert (warm[0].usage.reused_tokens > 0) == (shared >= 37)
    assert same(warm, cold)


def test_a_cancelled_prefill_leaves_nothing_that_changes_the_next(replies: Replies) -> None:
    request = asking(LONG, max_tokens=5)
    expected = replies(request)
    replies.forget_all()

    def stop(event: GenerationEvent) -> None:
        replies.cancels.cancel(None)

    assert replies.reply(request, stop).reason == "cancelled"
    assert same(replies(request), expected)


def test_a_state_from_disk_gives_the_same_bits(
    replies: Replies, tiny: Loaded, tmp_path: Path
) -> None:
    before = Replies(tiny, tmp_path)
    request = replace(asking(LONG, max_tokens=20), chat_key="chat")
    expected = before(request)
    before.service.leave("chat")
    before.close()
    after = Replies(tiny, tmp_path)
    again = after(request)
    after.close()
    assert again[0].usage.restored_tokens > 0
    assert same(again, expected)
