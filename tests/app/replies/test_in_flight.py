"""The engine dies with many replies in flight: what they had written stays written."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.replies.stream import send_prompt, stream_reply
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Finished, Sampling, TextDelta
from openchat_local.models.errors import EngineDied
from support.openchat_gguf import openchat_vocabulary, write_model

REPLIES = 8


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    yield store
    store.close()


class Reader(threading.Thread):
    """One chat's reply, as a window of its own would read it."""

    def __init__(self, store: ChatStore, engine: LocalEngine, chat_id: str) -> None:
        super().__init__(daemon=True)
        self.chat_id = chat_id
        self.text = ""
        self.begun = threading.Event()
        self.problem: Exception | None = None
        sampling = Sampling(temperature=1.0)
        self._events = stream_reply(store, engine, chat_id, sampling, update_interval=0.0)

    def run(self) -> None:
        try:
            for event in self._events:
                if isinstance(event, TextDelta):
                    self.text += event.text
                    self.begun.set()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.problem = error
        self.begun.set()


def test_no_text_of_eight_replies_is_lost_when_the_engine_is_killed(
    store: ChatStore, tmp_path: Path
) -> None:
    path = write_model(
        tmp_path / "tiny.gguf", openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1
    )
    with closing(LocalEngine(EngineOptions(path, context=32_768))) as engine:
        readers = []
        for number in range(REPLIES):
            chat_id = store.new_chat().id
            send_prompt(store, chat_id, f"Tell me about river number {number}.")
            readers.append(Reader(store, engine, chat_id))
        for reader in readers:
            reader.start()
        assert all(reader.begun.wait(60) for reader in readers)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        for reader in readers:
            reader.join(60)
        for reader in readers:
            assert isinstance(reader.problem, EngineDied), reader.problem
            assert "\n" not in str(reader.problem), "one sentence"
            prompt, reply = store.branch(reader.chat_id)
            assert prompt.content.startswith("Tell me")
            assert reader.text
            assert (reply.content, reply.finish_reason) == (reader.text, "engine died")
            assert reply.instance is None

        # The next prompt starts the engine again, in any of the chats.
        send_prompt(store, readers[0].chat_id, "Go on.")
        sampling = Sampling(temperature=0.0, max_tokens=2)
        *_, finished = stream_reply(store, engine, readers[0].chat_id, sampling)
        assert isinstance(finished, Finished)
