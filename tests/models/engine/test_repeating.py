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

from openchat_local.models.engine.decoding.governor import ThreadGovernor
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


class Restless(ThreadGovernor):
    """Another number of threads after every window."""

    def observe(self, seconds: float, running: float) -> int:
        self.threads = self.threads % self.most + 1
        return self.threads


class Replies(InProcess):
    """Replies from one context, each with the logits that its last token was drawn from."""

    def __init__(self, tiny: Loaded, kind: str = "f16", states: Path | None = None) -> None:
        kv_type: KVType = "q8_0" if kind == "q8_0" else "f16"
        self.governor = Restless(2)
        super().__init__(
            *tiny, states=states, kv_type=kv_type, flash=kind == "flash", governor=self.governor
        )
        self._tiny, self._kind = tiny, kind

    def another(self, states: Path | None = None) -> Replies:
        """The same, begun anew."""
        return Replies(self._tiny, self._kind, states)

    def __call__(
        self, request: GenerationRequest, emit: Emit | None = None
    ) -> tuple[Finished, np.ndarray]:
        return self.reply(request, emit), self.logits()

    def prefill(self, request: GenerationRequest) -> list[int]:
        """Where the chunks of the prompt ended."""
        events: list[GenerationEvent] = []
        self.reply(request, events.append)
        return [event.evaluated for event in events if isinstance(event, PrefillProgress)]


@pytest.fixture(params=["f16", "flash"])
def replies(tiny: Loaded, request: pytest.FixtureRequest) -> Iterator[Replies]:
    replies = Replies(tiny, request.param)
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
@pytest.mark.parametrize("replies", ["f16", "flash", "q8_0"], indirect=True)
def test_a_busy_machine_changes_no_bit(replies: Replies, sampling: dict[str, float]) -> None:
    request = asking(LONG, max_tokens=40, **sampling)
    alone = replies(request)
    for _ in range(3):  # of several windows, from another number of threads each time
        replies.forget_all()
        replies.reply(engines.asking("Something else.", max_tokens=10))
        replies.forget_all()
        assert same(replies(request), alone)


def test_threads_divide_a_long_cache_with_flash_attention_alone(tiny: Loaded) -> None:
    """What the mend above is for: were it not so, nobody would have to be held."""
    for kind, differ in (("f16", False), ("flash", True), ("q8_0", False)):
        replies = Replies(tiny, kind)
        asked = engines.asking(LONG, max_tokens=1)
        logits = []
        for threads in (1, 2):
            replies.forget_all()
            replies.governor.threads = threads
            replies.context.use_threads(threads)
            replies.reply(asked)
            logits.append(replies.logits().copy())
        assert (not np.array_equal(*logits)) == differ, kind
        assert replies.context.divides == (kind == "flash")
        replies.close()


def test_what_fewer_threads_decoded_is_read_again_for_a_seed(tiny: Loaded) -> None:
    replies = Replies(tiny, "flash")
    replies.governor.threads = 1
    replies.context.use_threads(1)
    first = replies.reply(engines.asking(LONG, max_tokens=40))  # nobody's seed
    content = replies.service.template.content_decoder()
    text = "".join(map(content.feed, first.token_ids)) + content.finish()
    request = asking(LONG, said(text, first), "And then?", max_tokens=5)
    fresh = replies.another()
    assert same(replies(request), fresh(request))
    for one in (replies, fresh):
        one.close()


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
    replies: Replies, shared: int
) -> None:
    words = LONG.split()
    asked = asking(" ".join([*words[:shared], *reversed(words)]), max_tokens=5)
    replies(asking(LONG, max_tokens=40))
    warm = replies(asked)
    fresh = replies.another()
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


def test_a_state_from_disk_gives_the_same_bits(replies: Replies, tmp_path: Path) -> None:
    before = replies.another(tmp_path)
    request = replace(asking(LONG, max_tokens=20), chat_key="chat")
    expected = before(request)
    before.service.leave("chat")
    before.close()
    after = replies.another(tmp_path)
    again = after(request)
    after.close()
    assert again[0].usage.restored_tokens > 0
    assert same(again, expected)
