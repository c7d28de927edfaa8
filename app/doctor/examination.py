"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from openchat_local.app.doctor import holdings, home, machine, software
from openchat_local.app.doctor import speed as speed_test
from openchat_local.app.doctor.finding import Check, Finding, examined


def examine(*, verify: bool, speed: bool) -> Iterator[Finding]:
    """Every finding as soon as those before it are known. `verify` reads all models whole,
    `speed` lets the configured one write for a few seconds."""
    checks: list[tuple[str, Check]] = [
        ("Python", software.python),
        ("llama.cpp", software.llama),
        ("MLX", software.mlx),
        ("PyTorch", software.torch),
        ("memory", machine.memory),
        ("disk", machine.disk),
        ("data home", home.home),
        ("settings", home.settings),
        ("chats", home.database),
        ("model", holdings.chosen_model),
        ("models", lambda: holdings.models(verify)),
        ("adapters", holdings.adapters),
        ("terminal", machine.terminal),
        ("network", machine.network),
    ]
    # The slow ones wait for child processes, so they may as well wait together.
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda check: list(examined(*check)), checks):
            yield from found
    if speed:  # alone, for it measures
        yield from examined("speed", speed_test.speed)
