"""Real signals, real deaths: what is left of the engine, the reply and the words on screen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.connection import EngineChild
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    GenerationRequest,
    PrefillProgress,
    TextDelta,
)
from openchat_local.models.errors import EngineClosed, EngineDied, OpenChatError
from support.engines import asking, run

LONG = " ".join(str(number * 7919 % 1000) for number in range(450))


def kill(engine: LocalEngine, how: int = signal.SIGKILL) -> None:
    assert engine.pid is not None
    os.kill(engine.pid, how)


def killed_at(
    kind: type[TextDelta | PrefillProgress],
    engine: LocalEngine,
    request: GenerationRequest,
    how: int = signal.SIGKILL,
) -> tuple[str, EngineDied]:
    """Kill the child at the first event of a kind: the text that came, and what is said."""
    text = ""
    try:
        for event in engine.generate(request):
            if isinstance(event, TextDelta):
                text += event.text
            if isinstance(event, kind):
                kill(engine, how)
    except EngineDied as death:
        return text, death
    raise AssertionError("the reply outlived the engine")


@pytest.fixture
def engine(starter_path: Path):  # type: ignore[no-untyped-def]
    engine = LocalEngine(EngineOptions(starter_path, context=4096))
    yield engine
    engine.close()


def test_death_in_decode_keeps_the_text_and_the_next_prompt_restarts(engine: LocalEngine) -> None:
    text, death = killed_at(TextDelta, engine, asking("Write a long essay.", max_tokens=2000))
    assert text
    assert "in mid-work (killed by signal 9)" in str(death)
    assert "send the prompt again" in str(death)
    assert run(engine, asking("Hi", max_tokens=3))[1].usage.generated_tokens == 3
    assert engine.loads == 2


def test_death_in_prefill(engine: LocalEngine) -> None:
    text, death = killed_at(PrefillProgress, engine, asking(LONG + LONG, max_tokens=5))
    assert text == ""
    assert "killed by signal 9" in str(death)
    assert run(engine, asking("Hi", max_tokens=3))[1].usage.generated_tokens == 3


def test_what_is_asked_when_the_engine_closes_starts_no_other_child(
    engine: LocalEngine, tmp_path: Path
) -> None:
    words = Conversation((Message("user", "Hi"),))
    ended: list[OpenChatError] = []
    counted = threading.Barrier(5)

    def count() -> None:
        engine.count_tokens(words)
        counted.wait()
        try:
            while engine.loads == 1:
                engine.count_tokens(words)
        except OpenChatError as error:
            ended.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    counted.wait()
    engine.close()
    for thread in threads:
        thread.join()
    assert len(ended) == 4
    for ask in (
        lambda: engine.count_tokens(words),
        lambda: engine.render(words),
        lambda: engine.fit(asking("Hi", max_tokens=3)),
        lambda: engine.set_adapter(None),
    ):
        with pytest.raises(EngineClosed, match="load the model again"):
            ask()
    assert (engine.loads, engine.pid) == (1, None)
    assert run(engine, asking("Hi", max_tokens=3))[1].usage.generated_tokens == 3
    assert engine.loads == 2
    assert engine.count_tokens(words)


def test_death_in_load(engine: LocalEngine) -> None:
    engine.start()
    # Stopped while Python starts in it, it cannot be through before somebody waits for it;
    # killed before that, it would only be started again.
    kill(engine, signal.SIGSTOP)
    death = threading.Timer(1.0, kill, (engine,))
    death.start()
    with pytest.raises(EngineDied, match="while it loaded the model"):
        engine.load()
    death.join()
    assert run(engine, asking("Hi", max_tokens=3))[1].usage.generated_tokens == 3


def test_death_between_replies_is_not_even_noticed(engine: LocalEngine) -> None:
    run(engine, asking("Hi", max_tokens=3))
    kill(engine)
    time.sleep(0.2)
    assert run(engine, asking("Hi", max_tokens=3))[1].usage.generated_tokens == 3


def test_an_abort_is_told_as_what_it_was(engine: LocalEngine) -> None:
    request = asking("Write a long essay.", max_tokens=2000)
    _, death = killed_at(TextDelta, engine, request, signal.SIGABRT)
    assert "killed by signal 6" in str(death)


def test_what_an_earlier_cancel_wrote_is_not_told_as_the_cause(engine: LocalEngine) -> None:
    request = asking("Write a long essay.", max_tokens=2000)
    for event in engine.generate(request):
        if isinstance(event, TextDelta):
            engine.cancel()
    _, death = killed_at(TextDelta, engine, request, signal.SIGABRT)
    assert "llama_decode" not in str(death)


PARENT = """
import sys
from pathlib import Path
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import *
engine = LocalEngine(EngineOptions(Path(sys.argv[1])))
engine.load()
print(engine.pid, flush=True)
conversation = Conversation((Message("user", "Write a very long essay."),))
sampling = Sampling(temperature=0.0, max_tokens=7000)
for event in engine.generate(GenerationRequest(conversation, sampling)):
    if isinstance(event, TextDelta):
        print("text", flush=True)
"""


def test_the_child_dies_with_its_parent_in_mid_decode(starter_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(starter_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert parent.stdout.readline() == "text\n"
    parent.kill()
    parent.wait()
    child.wait(timeout=5)
    parent.stdout.close()


def test_a_module_in_the_working_directory_is_not_imported(
    tmp_path: Path, starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    engine = LocalEngine(EngineOptions(starter_path, vocab_only=True))
    assert engine.load().template == "chatml"
    engine.close()


def test_a_child_that_was_never_asked_anything_ends_on_close() -> None:
    child = EngineChild()
    process = psutil.Process(child.pid)
    child.close()
    process.wait(timeout=10)
