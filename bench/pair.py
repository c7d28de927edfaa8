"""Two replies that are compared blind in the chat window, beside the same two asked of the engine
alone: pacing them on the screen must not slow who writes them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

from bench.report import table
from bench.setting import rounds, temporary_home
from openchat_local.app.engine import local_engine
from openchat_local.app.paths import ensure_home
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.app import ChatApp
from openchat_local.app.tui.widgets.chat_pane import ChatPane
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import Finished, GenerationRequest, Sampling

TOKENS = 200
ROUNDS = 5
CONDITIONS = ("", "Math Correct")
PROMPT = "Write a long story about a lighthouse, with many chapters."
SAMPLING = {"temperature": 0.0, "max_tokens": TOKENS}


def main() -> None:
    with temporary_home():
        samples = asyncio.run(_measured(rounds(ROUNDS)))
    print(f"{TOKENS} tokens of each of two replies at once, tokens/s of both together\n")
    print(table(samples, "tokens/s", against="engine"))


async def _measured(times: int) -> dict[str, list[float]]:
    settings = load_settings({"sampling": SAMPLING, "learning": {"votes": 10_000}})
    engine = local_engine(settings)
    app = ChatApp(ensure_home(), settings, engine)
    samples: dict[str, list[float]] = {"engine": [], "window": []}
    async with app.run_test(size=(160, 50)):
        pane = app.screen.query_one(ChatPane)
        await _until(lambda: pane.loader.loaded is not None)
        _enter(pane, f'/compare base "adapter=base,condition={CONDITIONS[1]}"')
        await _until(lambda: "two answer each prompt" in pane.notice.text)
        for number in range(1 + times):  # the first is to warm up
            alone = await asyncio.to_thread(_together, engine)
            paired = await _pair(pane, number)
            if number:
                samples["engine"].append(alone)
                samples["window"].append(paired)
        await app.run_action("quit")
    engine.close()
    return samples


async def _pair(pane: ChatPane, number: int) -> float:
    """Tokens per second of a pair, from the thread that begins it to the end of both."""
    _enter(pane, f"{PROMPT} ({number})")
    await _until(lambda: pane.both is not None)
    pair, began = pane.both, time.perf_counter()
    assert pair is not None
    await asyncio.to_thread(pair.join, 600.0)
    seconds = time.perf_counter() - began
    await _until(lambda: pane.asked is not None)
    texts = [await asyncio.to_thread(_generated, pair._store, each) for each in _replies(pane)]
    _enter(pane, "s")
    await _until(lambda: pane.asked is None)
    _enter(pane, "/temporary")  # no second turn: the engine alone has none either
    await asyncio.sleep(0.5)
    _enter(pane, f'/compare base "adapter=base,condition={CONDITIONS[1]}"')
    await _until(lambda: "two answer each prompt" in pane.notice.text)
    return sum(texts) / seconds


def _replies(pane: ChatPane) -> Sequence[str]:
    assert pane.asked is not None
    return pane.asked.first_reply_id, pane.asked.second_reply_id


def _generated(store: object, message_id: str) -> int:
    from openchat_local.app.chats import ChatStore

    assert isinstance(store, ChatStore)
    usage = store.message(message_id).usage
    assert usage is not None
    return int(usage["generated_tokens"])


def _together(engine: LocalEngine) -> float:
    """Tokens per second of both replies, from the first request to the last token."""
    generated: list[int] = []

    def ask(condition: str) -> None:
        conversation = Conversation((Message("user", PROMPT),), condition)
        *_, finished = engine.generate(GenerationRequest(conversation, Sampling(**SAMPLING)))
        assert isinstance(finished, Finished)
        generated.append(finished.usage.generated_tokens)

    threads = [threading.Thread(target=ask, args=(each,)) for each in CONDITIONS]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(generated) / (time.perf_counter() - began)


def _enter(pane: ChatPane, text: str) -> None:
    pane.prompt.put(text)
    pane.prompt.action_send()


async def _until(condition: object, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.005)
