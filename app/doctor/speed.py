"""How fast the configured model is on this machine, in about ten seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import closing
from dataclasses import replace

from openchat_local.app.doctor.finding import Finding
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    Finished,
    GenerationRequest,
    LoadedModel,
    Sampling,
    TextDelta,
    Usage,
)

CONTEXT = 1024
LOAD_SECONDS = 120.0
# Together about ten seconds: most machines are through with the prompt in three of them.
PREFILL_SECONDS, DECODE_SECONDS = 30.0, 5.0
# A person reads about five words a second.
READING = 5.0
PROMPT = "Say in your own words how a river finds its way to the sea, and why it bends. " * 6
ONE_AT_A_TIME = (
    "What this model keeps of a text cannot be cut (it is recurrent, or looks through a sliding "
    "window): it writes one reply at a time, reads a prompt whole again once it has changed, and "
    "no token is drafted."
)


def speed() -> Iterator[Finding]:
    """Tokens a second of prefill and decoding, through the same engine as a chat."""
    from openchat_local.app.engine import engine_options
    from openchat_local.app.settings.model import SettingsError, load_settings
    from openchat_local.app.settings.remote_models import remote_model

    try:
        settings = load_settings()
    except SettingsError:
        return  # told by the check of the settings
    if remote_model(settings.model, settings.engines) is not None:
        return  # it is not this machine that is fast or slow
    # The model alone: neither an adapter nor the states of chats.
    options = engine_options(settings.model_copy(update={"context": CONTEXT, "adapter": None}))
    with closing(LocalEngine(replace(options, states_dir=None))) as engine:
        loaded = _in_time(engine)
        if loaded is None:
            text = f"The model did not load within {LOAD_SECONDS:.0f} seconds."
            advice = "Close other programs, or choose a smaller model: openchat-local models list."
            yield Finding("speed", "problem", text, advice)
            return
        usage = _measured(engine)
    prefill = usage.evaluated_tokens / max(usage.prefill_seconds, 1e-9)
    decode = usage.tokens_per_second
    if loaded.sequences == 1:
        yield Finding("replies at once", "note", ONE_AT_A_TIME, facts={"sequences": 1})
    seconds = loaded.load_seconds
    text = (
        f"Loaded in {seconds:.1f} s; reads {prefill:.0f} and writes {decode:.1f} tokens a second."
    )
    facts = {"load_seconds": seconds, "prefill": prefill, "decode": decode}
    if decode < READING:
        yield Finding(
            "speed", "note", text, "That is slower than one reads: a smaller model or "
            "quantisation is faster, and so are closed other programs.", facts,
        )  # fmt: skip
    else:
        yield Finding("speed", "ok", text, facts=facts)


def _in_time(engine: LocalEngine) -> LoadedModel | None:
    """The model; None when loading takes too long. Raises EngineError."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(engine.load)
        try:
            return loading.result(LOAD_SECONDS)
        except TooLate:
            engine.close()  # ends the child, and with it the wait of the pool
            return None


def _measured(engine: LocalEngine) -> Usage:
    conversation = Conversation((Message("user", PROMPT),))
    sampling = Sampling(temperature=0.0, max_tokens=256)
    request = GenerationRequest(conversation, sampling, speculate=False)
    deadline = time.monotonic() + PREFILL_SECONDS
    writing = False
    for event in engine.generate(request):
        if isinstance(event, Finished):
            return event.usage
        if isinstance(event, TextDelta) and not writing:
            writing, deadline = True, time.monotonic() + DECODE_SECONDS
        if time.monotonic() > deadline:
            engine.cancel()
    raise AssertionError("a reply ends with Finished")
