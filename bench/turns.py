"""The first token of a later turn in a 4k-token chat: cold, warm, and after a restart."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from bench.report import interleave, table
from bench.setting import starter
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
    Usage,
)

TURN = "Please explain, in about a hundred words, how rivers find their way to the sea. " * 6
REPLY = "Rivers follow the slope of the land, joining others on the way to the sea. " * 6


def main() -> None:
    conversation = _long_conversation()
    usages: dict[str, Usage] = {}

    def first_token(name: str, engine: LocalEngine, turns: Conversation) -> float:
        sampling = Sampling(temperature=0.0, max_tokens=8)
        request = GenerationRequest(turns, sampling, chat_key="bench")
        *_, finished = engine.generate(request)
        assert isinstance(finished, Finished)
        usages[name] = finished.usage
        return finished.usage.time_to_first_token

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = EngineOptions(starter(), states_dir=Path(folder))
        before_last = Conversation(conversation.messages[:-2])
        engine = LocalEngine(options)
        first_token("before", engine, before_last)
        _close_and_wait(engine)  # writes the state that `restarted` reads

        def cold() -> float:
            engine = LocalEngine(EngineOptions(starter()))
            engine.load()
            seconds = first_token("cold", engine, conversation)
            engine.close()
            return seconds

        def warm() -> float:
            engine = LocalEngine(EngineOptions(starter()))
            first_token("before", engine, before_last)
            seconds = first_token("warm", engine, conversation)
            engine.close()
            return seconds

        def restarted() -> float:
            engine = LocalEngine(options)
            engine.load()
            seconds = first_token("restarted", engine, conversation)
            psutil.Process(engine.pid).kill()  # so that the state stays as it was
            return seconds

        contenders = {"cold": cold, "warm": warm, "restarted": restarted}
        print(table(interleave(contenders, rounds=3), "s to first token", against="cold"))
    print("\n| | prompt | evaluated | reused | of these from disk |\n|---|---|---|---|---|")
    for name in contenders:
        usage = usages[name]
        print(
            f"| {name} | {usage.prompt_tokens} | {usage.evaluated_tokens} | "
            f"{usage.reused_tokens} | {usage.restored_tokens} |"
        )


def _long_conversation() -> Conversation:
    messages = []
    for number in range(22):
        messages += [Message("user", f"{number}. {TURN}"), Message("assistant", REPLY)]
    return Conversation((*messages, Message("user", "Thank you. In one sentence?")))


def _close_and_wait(engine: LocalEngine) -> None:
    process = psutil.Process(engine.pid)
    engine.close()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
