"""`openchat-local serve` in a process of its own, and clients that cost little."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench.setting import program, temporary_home

_PATIENCE = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back of a chat: its text, its tokens, and the seconds to the first text and to the
    end."""

    text: str
    tokens: int
    first: float
    seconds: float


class Served:
    """A running server. Every question has a connection of its own."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = parts.hostname, parts.port
        self._process = process

    def chat(self, prompt: str, tokens: int, *, stream: bool, model: str | None = None) -> Answered:
        """A greedy reply of at most `tokens` tokens."""
        began = time.perf_counter()
        with self.asked(prompt, tokens, stream=stream, model=model) as response:
            if not stream:
                answer = json.loads(response.read())
                text = answer["choices"][0]["message"]["content"]
                seconds = time.perf_counter() - began
                return Answered(text, answer["usage"]["completion_tokens"], seconds, seconds)
            texts: list[str] = []
            count, first = 0, 0.0
            for event in events(response):
                for choice in event["choices"]:
                    if piece := choice["delta"].get("content"):
                        first = first or time.perf_counter() - began
                        texts.append(piece)
                if event.get("usage"):
                    count = event["usage"]["completion_tokens"]
        return Answered("".join(texts), count, first, time.perf_counter() - began)

    @contextmanager
    def asked(
        self, prompt: str, tokens: int, *, stream: bool, model: str | None = None, **more: Any
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a chat, of which nothing is read yet; who leaves closes the connection.
        `more` are other parameters."""
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": tokens,
            "stream": stream,
            **more,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        if model is not None:
            body["model"] = model
        connection = http.client.HTTPConnection(*self._address, timeout=_PATIENCE)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise RuntimeError(f"{response.status}: {response.read().decode()[:300]}")
            yield response
        finally:
            connection.close()

    def lead(self, prompt: str, tokens: int, model: str) -> float:
        """By how much the likeliest token was likelier than the next, in nats, where that was
        least."""
        likely = {"logprobs": True, "top_logprobs": 2}
        with self.asked(prompt, tokens, stream=False, model=model, **likely) as response:
            choice = json.loads(response.read())["choices"][0]
        pairs = [one["top_logprobs"] for one in choice["logprobs"]["content"]]
        return min(first["logprob"] - second["logprob"] for first, second in pairs)

    def models(self) -> list[str]:
        """Their ids."""
        connection = http.client.HTTPConnection(*self._address, timeout=_PATIENCE)
        try:
            connection.request("GET", "/v1/models")
            found = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return [model["id"] for model in found["data"]]

    def gauge(self, name: str) -> float:
        """One of /metrics."""
        connection = http.client.HTTPConnection(*self._address, timeout=_PATIENCE)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    def resident(self) -> tuple[int, int]:
        """Bytes of the server's process, and of its engine's."""
        own = self._process.memory_info().rss
        children = self._process.children(recursive=True)
        return own, sum(child.memory_info().rss for child in children)


def events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream. Raises RuntimeError for one that tells of an error."""
    while line := response.readline():
        if line.startswith(b"data: {"):
            event: dict[str, Any] = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(event["error"]["message"])
            yield event


@contextmanager
def serving(
    model: Path, *, adapters: dict[str, Path] | None = None, speculation: bool = False
) -> Iterator[Served]:
    """A server of `model` in a home that is thrown away, until the block ends."""
    from openchat_local.app.engine import installed_adapters

    with temporary_home():
        for name, path in (adapters or {}).items():
            installed_adapters().add(name, path)
        command = program("serve", "-m", str(model), "--port", "0")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=_environment(speculation=speculation),
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if " at http" not in line:
                raise RuntimeError(f"serve did not start: {line!r}")
            url = line.split(" at ")[1].split("/v1")[0]
            yield Served(url, psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait(90)


def _environment(*, speculation: bool) -> dict[str, str]:
    import os

    return dict(os.environ) | {"OPENCHAT_LOCAL_ENGINE__SPECULATION": str(speculation).lower()}
