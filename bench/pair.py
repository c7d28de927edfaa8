"""Two replies that are compared blind in the chat window, in a real terminal, beside the same two
asked of an engine alone: showing them alike must not slow who writes them."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path

from bench.report import table
from bench.setting import program, rounds, temporary_home
from bench.terminal import Terminal
from openchat_local.app.engine import local_engine
from openchat_local.app.paths import ensure_home
from openchat_local.app.settings.model import load_settings
from openchat_local.app.tui.widgets.chat_pane import VOTE
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import Finished, GenerationRequest, Sampling

TOKENS = 300
ROUNDS = 5
CONTEXT = 2048
READY = f"/ {CONTEXT:,}"
CONDITION = "Math Correct"
COMPARE = f'/compare base "adapter=base,condition={CONDITION}"'
COMPARING, REVEALED, EMPTY = "two answer each prompt", "1 was ", f" 0 {READY}"
# The number first, so that nothing of a prompt is in the cache already.
PROMPT = "{number}. Write a long story about a lighthouse, with many chapters."
SAMPLING = Sampling(temperature=0.0, max_tokens=TOKENS, seed=0)
WINDOW = ("chat", "--context", str(CONTEXT), "--temperature", "0", "--max-tokens", str(TOKENS))


def main() -> None:
    samples: dict[str, list[float]] = {"engine": [], "window": []}
    with temporary_home():
        home = ensure_home()
        engine = local_engine(load_settings({"context": CONTEXT}))
        terminal = Terminal(program(*WINDOW, "--seed", "0"))
        try:
            engine.load()
            terminal.wait_for(READY)
            time.sleep(1.0)
            for number in range(1 + rounds(ROUNDS)):  # the first is to warm up
                alone = _together(engine, number)
                paired = _paired(terminal, home / "chats.db", number)
                if number:
                    samples["engine"].append(alone)
                    samples["window"].append(paired)
        finally:
            terminal.close()
            engine.close()
    print(
        f"Two replies at once of up to {TOKENS} tokens each, tokens/s of both together: of the "
        "engine from both requests to the last token, in the window from Enter to the question "
        "which is better\n"
    )
    print(table(samples, "tokens/s", against="engine"))


def _paired(terminal: Terminal, database: Path, number: int) -> float:
    """Tokens a second of a pair in a new chat of the window."""
    _enter(terminal, COMPARE, COMPARING)
    seconds = _enter(terminal, PROMPT.format(number=number), VOTE)
    tokens = _tokens_of_newest(database)
    _enter(terminal, "s", REVEALED)
    _enter(terminal, "/new", EMPTY)
    return tokens / seconds


def _enter(terminal: Terminal, text: str, until: str) -> float:
    """Type a line, and send it; seconds from Enter until something is on the screen."""
    terminal.press(text)
    time.sleep(0.5)
    after, began = terminal.written, time.perf_counter()
    terminal.press("\r")
    return terminal.wait_for(until, timeout=300, after=after) + terminal.started - began


def _tokens_of_newest(database: Path) -> int:
    """What both replies of the newest pair came to."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute(
            "SELECT usage FROM messages WHERE role = 'assistant' ORDER BY created_at DESC LIMIT 2"
        ).fetchall()
    finally:
        connection.close()
    return sum(int(json.loads(usage)["generated_tokens"]) for (usage,) in rows)


def _together(engine: LocalEngine, number: int) -> float:
    """Tokens a second of both replies, from the first request to the last token."""
    generated: list[int] = []

    def ask(condition: str) -> None:
        conversation = Conversation((Message("user", PROMPT.format(number=number)),), condition)
        *_, finished = engine.generate(GenerationRequest(conversation, SAMPLING))
        assert isinstance(finished, Finished)
        generated.append(finished.usage.generated_tokens)

    threads = [threading.Thread(target=ask, args=(each,)) for each in ("", CONDITION)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(generated) / (time.perf_counter() - began)
