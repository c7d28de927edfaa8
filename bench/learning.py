"""The loop in figures: from the screen that is accepted to the first step, replies beside training,
the screen itself on 10,000 chats, and two replies that are compared blind.

`python -m bench.learning first-step` runs one of them alone.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import table
from bench.setting import rounds, starter, temporary_home
from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.app.learning.planning import Planning
from openchat_local.app.learning.rules import DEFAULT_RULES
from openchat_local.app.learning.selecting import Selection, gather, offers
from openchat_local.app.learning.starting import LearningRequest, Tried, begin_learning
from openchat_local.app.paths import ensure_home
from openchat_local.finetune.run.background import BackgroundRun
from openchat_local.finetune.run.events import Ready, StepEvent

PARTS = {
    "first-step": "bench.learning",
    "replies": "bench.learning_replies",
    "screen": "bench.learning_screen",
    "pair": "bench.pair",
}
ROUNDS = 4
CHATS, EXCHANGES = 40, 5
RATINGS = (1, None, -1, 1)
SENTENCE = "A lamp in the tower number {n} turns once in {m} seconds, and nobody counts them. "
TRIED = "plan tried before"
LOOK_SECONDS = 0.005
DEADLINE = 600.0


def main() -> None:
    for name in PARTS:
        print(f"### {name}\n", flush=True)
        one_part(name)
        print(flush=True)


def first_step() -> None:
    """What a person waits for after Enter: rows are written, a process is begun, the model
    loaded, a plan tried unless the screen has tried one, the loss before any step measured."""
    samples: dict[str, list[float]] = {}
    with temporary_home():
        home = ensure_home()
        with rated_chats(home, CHATS) as store:
            for number in range(1 + rounds(ROUNDS)):  # the first is to warm up
                for kind in (TRIED, "no plan"):
                    times = _first_step(store, home, kind, f"{kind.replace(' ', '-')}-{number}")
                    for what, seconds in times.items() if number else ():
                        samples.setdefault(f"{kind}: {what}", []).append(seconds)
    print(f"From Enter, {CHATS} chats of {EXCHANGES} exchanges, the starter\n")
    print(table(samples, "s"))


def _first_step(store: ChatStore, home: Path, kind: str, name: str) -> dict[str, float]:
    """Seconds until the run is begun, until it has a plan, and until its first step is made."""
    request = learning_request(store, name)
    tried = _tried(store, home, request) if kind == TRIED else None
    began = time.perf_counter()
    run = begin_learning(store, request, home, tried).run
    times = {"begun": time.perf_counter() - began}
    with ended_after(run):
        for event in told(run):
            if isinstance(event, Ready):
                times["plan known"] = time.perf_counter() - began
            if isinstance(event, StepEvent):
                return times | {"first step": time.perf_counter() - began}
    raise AssertionError("told() never ends without a step")


def _tried(store: ChatStore, home: Path, request: LearningRequest) -> Tried:
    """What the screen does while its user still looks."""
    lessons = gather(store, request.selection, request.rules).lessons
    return Tried(lessons, Planning(request, lessons, home).run().plan)


def learning_request(store: ChatStore, name: str, epochs: float = 0.0) -> LearningRequest:
    """What Enter on the screen asks for: these very chats."""
    request = LearningRequest(name, starter(), Selection(), DEFAULT_RULES, epochs=epochs)
    found = offers(store, request.selection, request.rules).offers
    return request.of_chats([offer.chat_id for offer in found])


@contextmanager
def rated_chats(home: Path, count: int) -> Iterator[ChatStore]:
    """A store of so many chats, in which every second reply is rated."""
    store = ChatStore.open(home)
    try:
        for first in range(0, count, 500):
            store.add_chats([_chat(number) for number in range(first, min(first + 500, count))])
        yield store
    finally:
        store.close()


def _chat(number: int) -> ChatDraft:
    messages = []
    for turn in range(EXCHANGES):
        text = "".join(SENTENCE.format(n=number, m=turn + part) for part in range(4))
        parent = 2 * turn - 1 if turn else None
        messages.append(MessageDraft("user", f"What of lamp {number}, {turn}?", parent))
        rating = RATINGS[(number + turn) % len(RATINGS)]
        fields = {"rating": rating, "finish_reason": "stop"}
        messages.append(MessageDraft("assistant", text, 2 * turn, fields))
    return ChatDraft(tuple(messages), {"title": f"Lamp number {number}"})


def told(run: BackgroundRun) -> Iterator[object]:
    """The events of a run as they come, until it ends. Raises RuntimeError where it fails, or
    tells nothing for too long."""
    read, deadline = 0, time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        events, read = run.events(read)
        yield from events
        if events:
            deadline = time.monotonic() + DEADLINE
        elif not (state := run.state()).at_work:
            raise RuntimeError(f"{run.name}: {state.sentence}")
        else:
            time.sleep(LOOK_SECONDS)
    raise RuntimeError(f"{run.name} tells nothing")


@contextmanager
def ended_after(run: BackgroundRun) -> Iterator[None]:
    """Stop the run after the block, whatever comes of that, and wait for the end of its process."""
    try:
        yield
    finally:
        run.stop()
        deadline = time.monotonic() + DEADLINE
        while run.state().at_work and time.monotonic() < deadline:
            time.sleep(0.05)
        run.seen()


def one_part(name: str) -> None:
    """Measure one of PARTS, and print it."""
    if name not in PARTS:
        sys.exit(f"no such part: {name}; there are {', '.join(PARTS)}")
    first_step() if name == "first-step" else importlib.import_module(PARTS[name]).main()


if __name__ == "__main__":
    for each in sys.argv[1:] or PARTS:
        one_part(each)
