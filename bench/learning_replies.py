"""A reply while a run trains in the background, beside the same reply while that run is paused;
and what an engine that has nothing to do takes from training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

from bench.learning import ended_after, learning_request, rated_chats
from bench.report import interleave, table
from bench.setting import rounds, temporary_home
from openchat_local.app.chats import ChatStore
from openchat_local.app.engine import local_engine
from openchat_local.app.learning.starting import begin_learning
from openchat_local.app.paths import ensure_home
from openchat_local.app.replies.stream import send_prompt, stream_reply
from openchat_local.app.settings.model import Settings, load_settings
from openchat_local.finetune.run.background import BackgroundRun
from openchat_local.finetune.run.events import StepEvent
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import Finished, Sampling, Usage

ROUNDS, TRAINING_ROUNDS = 8, 4
CHATS = 40
TOKENS = 100
EPOCHS = 1000.0  # it is stopped
TRAINED_SECONDS = 10.0  # that a sample of training takes, at least
DEADLINE = 300.0
# Every prompt begins with another number, so that nothing of it is in the cache already.
PROMPT = "{number}. Retell this at length: " + (
    "The keeper climbed the tower at dusk, lit the lamp, and wrote down each ship he saw. " * 24
)


def main() -> None:
    with temporary_home():
        home, settings = ensure_home(), load_settings()
        with rated_chats(home, CHATS) as store:
            request = learning_request(store, "beside", EPOCHS)
            run = begin_learning(store, request, home).run
            with ended_after(run):
                _steps(run, 2)
                replies, first = _replies(store, settings, run)
                training = _training(settings, run)
    usage = first[-1]
    print(
        f"The same reply, {usage.evaluated_tokens} tokens read and {usage.generated_tokens} "
        "written, in turns within seconds\n"
    )
    for unit, samples in replies.items():
        print(table(samples, unit, against="run paused"), end="\n\n")
    print("Training while nobody replies\n")
    print(table(training, "tokens/s", against="no engine"))


def _replies(
    store: ChatStore, settings: Settings, run: BackgroundRun
) -> tuple[dict[str, dict[str, list[float]]], list[Usage]]:
    engine, numbers = local_engine(settings), count()
    usages: dict[str, list[Usage]] = {"run paused": [], "training": []}
    seconds: dict[str, list[float]] = {name: [] for name in usages}
    try:
        for number in range(1 + rounds(ROUNDS)):  # the first is to warm up
            # Who comes first changes: a machine that gets slower, or faster, is fair to both.
            for name in sorted(usages, reverse=number % 2 == 0):
                _let(run, name)
                took, usage = _reply(store, engine, numbers)
                if number:
                    seconds[name].append(took)
                    usages[name].append(usage)
        run.go_on()
    finally:
        engine.close()

    def each(figure: Callable[[Usage], float]) -> dict[str, list[float]]:
        return {name: [figure(usage) for usage in some] for name, some in usages.items()}

    tables = {
        "s, prompt to last token": seconds,
        "s to the first token": each(lambda usage: usage.time_to_first_token),
        "ms a token of the prefill": each(
            lambda usage: 1000 * usage.prefill_seconds / usage.evaluated_tokens
        ),
        "ms a token of the decoding": each(
            lambda usage: 1000 * usage.decode_seconds / usage.generated_tokens
        ),
    }
    return tables, usages["training"]


def _reply(store: ChatStore, engine: LocalEngine, numbers: Iterator[int]) -> tuple[float, Usage]:
    """Seconds from the prompt to the last token of a reply in a new chat, and what it cost; one
    that ended by itself is as if it had not been."""
    while True:
        chat = store.new_chat(private=True)
        sampling = Sampling(temperature=0.0, max_tokens=TOKENS, seed=0)
        began = time.perf_counter()
        send_prompt(store, chat.id, PROMPT.format(number=next(numbers)))
        *_, finished = stream_reply(store, engine, chat.id, sampling)
        took = time.perf_counter() - began
        store.delete_chat(chat.id)
        assert isinstance(finished, Finished)
        if finished.usage.generated_tokens == TOKENS:
            return took, finished.usage


def _let(run: BackgroundRun, how: str) -> None:
    """Have the run stand still, or train in earnest."""
    if how == "run paused":
        run.pause()
        _until(lambda: run.state().phase == "paused", run)
    else:
        run.go_on()
        _steps(run, 1)


def _training(settings: Settings, run: BackgroundRun) -> dict[str, list[float]]:
    def beside_an_engine() -> float:
        engine = local_engine(settings)
        try:
            engine.load()
            return _speed(run)
        finally:
            engine.close()

    contenders = {"no engine": lambda: _speed(run), "an idle engine": beside_an_engine}
    return interleave(contenders, rounds(TRAINING_ROUNDS), warm_up=0)


def _speed(run: BackgroundRun) -> float:
    """Tokens a second of the steps of the next seconds, but for the one that is under way."""
    steps = _steps(run, 3, TRAINED_SECONDS)[1:]
    return sum(step.tokens for step in steps) / sum(step.seconds for step in steps)


def _steps(run: BackgroundRun, count: int, seconds: float = 0.0) -> list[StepEvent]:
    """The steps that are made from now on, until there are so many, and so long."""
    _, read = run.events()
    began, steps = time.monotonic(), list[StepEvent]()

    def enough() -> bool:
        nonlocal read
        events, read = run.events(read)
        steps.extend(event for event in events if isinstance(event, StepEvent))
        return len(steps) >= count and time.monotonic() - began >= seconds

    _until(enough, run)
    return steps


def _until(condition: Callable[[], bool], run: BackgroundRun) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        state = run.state()
        if not state.at_work or time.monotonic() > deadline:
            raise RuntimeError(f"{run.name} is {state.phase}: {state.sentence}")
        time.sleep(0.01)
