"""Counts for Prometheus, in a registry of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openchat_local.models.engine.protocol import Usage

if TYPE_CHECKING:
    from openchat_local.app.server.places import Places

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """What has been served since the start."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "openchat_requests", "Requests by path and status.", ["path", "status"],
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "openchat_tokens", "Tokens: evaluated and reused ones of prompts, generated ones.",
            ["kind"], registry=registry,
        )  # fmt: skip
        self._first = Histogram(
            "openchat_time_to_first_token_seconds", "From the engine's turn to the first token.",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._took = Histogram(
            "openchat_request_seconds", "From a request's headers to the end of its answer.",
            ["path"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._running = Gauge("openchat_replies_running", "Replies in progress.", registry=registry)
        self._waiting = Gauge("openchat_replies_waiting", "Replies that wait.", registry=registry)

    def watch(self, places: Places) -> None:
        """Read how many run and wait from `places`, whenever somebody looks."""
        self._running.set_function(lambda: min(places.taken, places.running))
        self._waiting.set_function(lambda: places.waiting)

    def request(self, path: str, status: int, seconds: float) -> None:
        """One was answered. `path` is one of ours, not what somebody typed."""
        self._requests.labels(path, str(status)).inc()
        self._took.labels(path).observe(seconds)

    def reply(self, usage: Usage) -> None:
        """One was written."""
        self._tokens.labels("evaluated").inc(usage.evaluated_tokens)
        self._tokens.labels("reused").inc(usage.reused_tokens)
        self._tokens.labels("generated").inc(usage.generated_tokens)
        if usage.generated_tokens:
            self._first.observe(usage.time_to_first_token)

    def page(self) -> tuple[bytes, str]:
        """What Prometheus reads, and its media type."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
