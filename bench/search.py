"""Search over 100,000 messages in several scripts, and the list of 1,000 chats."""

from __future__ import annotations

import asyncio
import random
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.setting import temporary_home
from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.drafts import ChatDraft, MessageDraft

CHATS, MESSAGES = 1_000, 100  # of each
ROUNDS = 15
QUERIES = {
    "one letter": "s",
    "two letters": "st",
    "beginning of a word": "light",
    "a common word": "water",
    "three words": "water light stone",
    "one word in one message": "zwiebelfisch",
    "nothing": "nowheretobefound",
    "one character of Chinese": "灯",
    "a word of Chinese": "灯台",
    "Cyrillic": "маяк",
}
SYLLABLES = re.findall("..", "waterlightstonesihabocodepythonqurytamodeltoken")


def main() -> None:
    with temporary_home() as home:
        _fill(home)
        store = ChatStore.open(home)
        print(f"{CHATS * MESSAGES:,} messages, {(home / 'chats.db').stat().st_size / 1e6:.0f} MB")
        print(f"The newest 50 hits with their excerpts, {ROUNDS} rounds\n")
        print("| query | hits | median ms | max ms |\n|---|---|---|---|")
        for name, query in QUERIES.items():
            hits = len(store.search(query))
            _print(f"{name}: `{query}` | {hits}", _times(lambda query=query: store.search(query)))
        print(f"\n| {CHATS:,} chats | median ms | max ms |\n|---|---|---|")
        _print("read from the store", _times(lambda: store.chats(limit=CHATS)))
        store.close()
        _print("shown in the list of the window", asyncio.run(_listed(home)))


def _fill(home: Path) -> None:
    dice = random.Random(0)
    words = ["".join(dice.choices(SYLLABLES, k=dice.randint(1, 3))) for _ in range(20_000)]
    words += ["water", "light", "stone"] * 600
    store = ChatStore.open(home)
    for number in range(CHATS):
        messages = []
        for place in range(MESSAGES):
            text = " ".join(dice.choices(words, k=40))
            if place % 20 == 7:
                text += " 今夜は東京の灯台を見る Старый маяк на берегу"
            if (number, place) == (CHATS // 2, 3):
                text += " zwiebelfisch"
            role = "user" if place % 2 == 0 else "assistant"
            messages.append(MessageDraft(role, text, place - 1 if place else None))
        title = " ".join(dice.choices(words, k=5))
        store.add_chats([ChatDraft(tuple(messages), {"title": title})])
    store.close()


def _times(work: Callable[[], object]) -> list[float]:
    """Seconds of each round, the first one left out."""
    times = []
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return times[1:]


async def _listed(home: Path) -> list[float]:
    """Until the list is laid out and painted, in a window of 120 by 40."""
    from openchat_local.app.settings.model import load_settings
    from openchat_local.app.tui.app import ChatApp
    from openchat_local.app.tui.widgets.chat_list import ChatList
    from openchat_local.models.errors import ModelFileError

    app = ChatApp(home, load_settings(), ModelFileError("No model is needed here."))
    times = []
    async with app.run_test(size=(120, 40)) as pilot:
        chats = app.screen.query_one(ChatList)
        while not chats.option_count:
            await pilot.pause(0.05)
        listed = chats.chats
        for _ in range(ROUNDS):
            chats.show([], None)
            await pilot.pause(0.1)
            begin = time.perf_counter()
            chats.show(listed, None)
            await pilot.pause()
            times.append(time.perf_counter() - begin)
        await app.run_action("quit")
    return times


def _print(name: str, times: list[float]) -> None:
    print(f"| {name} | {1000 * statistics.median(times):.1f} | {1000 * max(times):.1f} |")
