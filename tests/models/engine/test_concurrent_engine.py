"""Many replies of one real child at once: its death, its adapters, and what it never gives back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from openchat_local.app.doctor.speed import speed
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    EngineOptions,
    Finished,
    GenerationRequest,
    TextDelta,
)
from openchat_local.models.errors import AdapterError, EngineDied, OpenChatError
from support.adapters import write_f32, write_random_adapter
from support.engines import asking, run
from support.openchat_gguf import byte_vocabulary, openchat_vocabulary, write_model

SMALL = {"embedding": 64, "heads": 2, "kv_heads": 1, "blocks": 2, "feed_forward": 64}
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("many")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    """A tiny model in float32."""
    half = write_model(folder / "f16.gguf", openchat_vocabulary(), **SMALL)
    return write_f32(half, folder / "tiny.gguf")


@pytest.fixture(scope="module")
def engine(base: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(base, context=2048, threads=1))
    yield engine
    engine.close()


def adapter(folder: Path, base: Path, rank: int) -> Path:
    return write_random_adapter(folder / f"rank-{rank}.gguf", base, rank=rank, size=0.3, seed=rank)


@dataclass
class Stream:
    """A reply that is listened to by a thread of its own."""

    engine: LocalEngine
    request: GenerationRequest
    text: str = ""
    finished: Finished | None = None
    error: OpenChatError | None = None
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        try:
            for event in self.engine.generate(self.request):
                if isinstance(event, TextDelta):
                    self.text += event.text
                    self.begun.set()
                elif isinstance(event, Finished):
                    self.finished = event
        except OpenChatError as error:
            self.error = error
        finally:
            self.begun.set()


def essays(engine: LocalEngine, count: int, tokens: int = 4000) -> list[Stream]:
    """So many long replies, all of which have begun."""
    request = replace(asking("Write.", max_tokens=tokens), update_interval=0.0)
    asked = [
        replace(request, conversation=asking(f"{n}. Write.").conversation) for n in range(count)
    ]
    streams = [Stream(engine, one) for one in asked]
    for stream in streams:
        assert stream.begun.wait(60)
    return streams


def joined(streams: list[Stream]) -> None:
    for stream in streams:
        stream.thread.join(60)
        assert not stream.thread.is_alive()


def test_replies_asked_for_by_many_threads_are_each_as_alone(
    engine: LocalEngine, base: Path, folder: Path
) -> None:
    """Eight at a time, of two adapters of different rank and of the bare model."""
    choices = [AdapterChoice(), *(AdapterChoice(adapter(folder, base, rank)) for rank in (2, 5))]
    requests = [
        replace(asking(f"{number}. Hello.", max_tokens=12), adapter=choices[number % 3])
        for number in range(16)
    ]
    alone = [run(engine, request)[1] for request in requests]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda request: run(engine, request)[1], requests))
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert [one.adapter for one in together[:3]] == [None, "rank-2", "rank-5"]
    assert engine.loads == 1


def test_a_death_with_eight_replies_in_flight_costs_each_a_sentence_and_no_text(
    base: Path,
) -> None:
    with closing(LocalEngine(EngineOptions(base, context=8192, threads=1))) as engine:
        streams = essays(engine, 8, tokens=900)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        joined(streams)
        for stream in streams:
            assert isinstance(stream.error, EngineDied)
            assert "in mid-work (killed by signal 9)" in str(stream.error)
            assert "\n" not in str(stream.error)
            assert stream.text
        whole, _ = run(engine, streams[0].request)
        assert whole.startswith(streams[0].text)
        assert engine.loads == 2


def test_a_reply_is_stopped_by_its_stream_or_its_request_and_all_at_once(base: Path) -> None:
    with closing(LocalEngine(EngineOptions(base, context=8192, threads=1))) as engine:
        others = essays(engine, 3)
        mine = engine.generate(others[0].request)
        assert any(isinstance(event, TextDelta) for event in mine)
        mine.close()
        engine.cancel(others[0].request)
        joined(others[:1])
        for stream in others[1:]:
            stream.begun.clear()
            assert stream.begun.wait(60)  # they go on
            assert stream.finished is None
        engine.cancel()
        joined(others)
        assert [one.finished and one.finished.reason for one in others] == ["cancelled"] * 3


def test_a_model_changes_between_replies(base: Path, folder: Path) -> None:
    other = write_model(folder / "other.gguf", openchat_vocabulary(), name="other", **SMALL)
    with closing(LocalEngine(EngineOptions(base, context=2048, threads=1))) as engine:
        streams = essays(engine, 2, tokens=60)
        changing = threading.Thread(target=engine.set_model, args=(other,))
        changing.start()
        joined(streams)
        changing.join(60)
        assert [one.error for one in streams] == [None, None]
        assert engine.load().name == "other"
        assert run(engine, asking("Hi", max_tokens=2))[1].usage.generated_tokens == 2


def test_an_adapter_whose_file_is_gone_is_told_to_who_asks_for_it(
    engine: LocalEngine, base: Path, folder: Path
) -> None:
    """Deleted between load and use: the reply that began goes on, the next is refused."""
    path = adapter(folder, base, 3)
    asked = replace(asking("Hello.", max_tokens=40), adapter=AdapterChoice(path))
    expected = run(engine, asked)[1].token_ids
    stream = engine.generate(replace(asked, update_interval=0.0))
    while not isinstance(next(stream), TextDelta):
        pass
    path.unlink()
    with pytest.raises(AdapterError, match=r"rank-3\.gguf cannot be read") as refused:
        run(engine, asked)
    assert "\n" not in str(refused.value)
    *_, last = stream
    assert isinstance(last, Finished)
    assert last.token_ids == expected
    assert run(engine, asking("Hi", max_tokens=2))[1].usage.generated_tokens == 2


def test_more_adapters_than_stay_loaded_take_turns(
    engine: LocalEngine, base: Path, folder: Path
) -> None:
    paths = [adapter(folder, base, rank) for rank in range(1, 8)]
    replies = []
    for _ in range(2):
        for path in paths:
            asked = replace(asking("Hello.", max_tokens=6), adapter=AdapterChoice(path))
            replies.append(run(engine, asked)[1].token_ids)
    assert replies[:7] == replies[7:]
    assert len(set(replies)) == 7


def test_a_cache_that_cannot_be_cut_serves_one_after_another_and_doctor_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sliding window: Gemma 2's."""
    ones = np.ones(64, np.float32)
    norms = {
        f"blk.{block}.{name}.weight": ones
        for block in range(SMALL["blocks"])
        for name in ("post_attention_norm", "post_ffw_norm")
    }
    path = folder / "window.gguf"
    write_model(path, openchat_vocabulary(), architecture="gemma2", extra=norms, **SMALL)
    with closing(LocalEngine(EngineOptions(path, context=512, threads=1))) as engine:
        assert engine.load().sequences == 1
        requests = [asking(f"{number}. Hello.", max_tokens=8) for number in range(4)]
        alone = [run(engine, request)[1].token_ids for request in requests]
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(lambda one: run(engine, one)[1].token_ids, requests))
        repeating = replace(asking("Hello. " * 20, max_tokens=60), speculate=True)
        assert run(engine, repeating)[1].usage.drafted_tokens == 0
    assert together == alone
    monkeypatch.setenv("OPENCHAT_LOCAL_MODEL", str(path))
    found = {finding.about: finding for finding in speed()}
    assert found["replies at once"].status == "note"
    assert "one reply at a time" in found["replies at once"].text
    assert found["speed"].facts["decode"] > 0


def test_two_thousand_requests_leave_nothing_behind(folder: Path) -> None:
    """Memory, open files, and the numbers of sequences; a fifth of them are cancelled."""
    path = folder / "bytes.gguf"
    shape = {"embedding": 32, "heads": 2, "kv_heads": 1, "blocks": 1, "feed_forward": 32}
    write_model(path, byte_vocabulary(), chat_template=TEMPLATE, **shape)
    adapters = [adapter(folder, path, rank) for rank in (1, 2)]
    choices = [AdapterChoice(), *map(AdapterChoice, adapters)]

    def ask(number: int) -> None:
        asked = asking(f"{number}", max_tokens=3, seed=number if number % 50 == 0 else None)
        stream = engine.generate(replace(asked, adapter=choices[number % 3]))
        if number % 5 == 0:
            next(stream)
            stream.close()
        else:
            assert isinstance([*stream][-1], Finished)

    with closing(LocalEngine(EngineOptions(path, context=512, threads=1))) as engine:
        engine.load()
        assert engine.pid is not None
        child = psutil.Process(engine.pid)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(300)))
            files = child.num_fds()

            def grown_by(numbers: range) -> int:
                before = child.memory_info().rss
                list(threads.map(ask, numbers))
                return child.memory_info().rss - before

            # The allocator takes some MiB once; what is lost is lost in every round.
            more = (range(start, start + 1700) for start in (300, 2000, 3700))
            assert any(grown_by(numbers) < 4 * 2**20 for numbers in more)
        assert child.num_fds() <= files
        joined(streams := [Stream(engine, asking("Hi", max_tokens=3)) for _ in range(8)])
        assert all(stream.finished for stream in streams)
